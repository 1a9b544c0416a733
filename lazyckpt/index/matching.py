"""Names that match patterns, found through an index where possible (see `model.patterns`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from lazyckpt.errors import ArgumentValueError
from lazyckpt.model.patterns import Pattern, Patterns, glob_test, head_of, is_glob, listed, shown, walking_test
from lazyckpt.model.similar_names import missing

_LISTED = 3  # names of a message


class Searchable(Protocol):
    """Names with ordinals, in file order: `AllNames`, `SomeNames`, or those of an edited checkpoint."""

    def position(self, name: str, /) -> int | None:
        """The ordinal of a name, or None."""

    def pairs(self) -> Iterable[tuple[str, int]]:
        """All names with their ordinals."""

    def with_prefix(self, prefix: str, /) -> Iterable[tuple[str, int]]:
        """The names that start with a prefix, with their ordinals."""

    def some_with_prefix(self, prefix: str, most: int, /) -> list[str]:
        """Up to `most` names that start with a prefix; none where that would cost a walk."""


def matches(names: Searchable, pattern: Pattern) -> dict[str, int]:
    """The names that match one pattern, with their ordinals, in file order; empty if none does.

    Raises:
        ArgumentValueError: the regular expression is not valid.

    Cost: a name a look-up; a prefix, and a glob with a literal beginning, a search in the index; other patterns a walk
    over the names.
    """
    if isinstance(pattern, str):
        ordinal = names.position(pattern)
        if ordinal is not None:
            return {pattern: ordinal}
    test = walking_test(pattern)
    if test is not None:
        return {name: ordinal for name, ordinal in names.pairs() if test(name)}
    text = str(pattern)
    if is_glob(text):
        test, head = glob_test(text), head_of(text)
        candidates = names.with_prefix(head) if head else names.pairs()
        found = {name: ordinal for name, ordinal in candidates if test(name)}
        if found:
            return found
    return dict(names.with_prefix(text))


def require_matches(names: Searchable, patterns: Patterns) -> dict[str, int]:
    """The names that match any of some patterns, with their ordinals, each once, in the order of the patterns.

    Raises:
        MissingName: a pattern matches nothing.
        ArgumentTypeError, ArgumentValueError: a pattern is of another type, or not valid.

    Cost: that of `matches` for each pattern.
    """
    found: dict[str, int] = {}
    for pattern in listed(patterns):
        more = matches(names, pattern)
        if not more:
            raise missing(pattern, (name for name, _ in names.pairs()), names.some_with_prefix)
        found.update(more)
    return found


def require_one(names: Searchable, pattern: Pattern) -> str:
    """The one name that matches a pattern.

    Raises:
        MissingName: nothing matches.
        ArgumentValueError: several names match.
    """
    found = list(require_matches(names, [pattern]))
    if len(found) > 1:
        some = ", ".join(map(shown, found[:_LISTED])) + (", …" if len(found) > _LISTED else "")
        raise ArgumentValueError(
            f"{shown(pattern)} matches {len(found):,} parameters ({some}); one name is needed here"
        )
    return found[0]
