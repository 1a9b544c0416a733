r"""Patterns of parameter names: the one language in which every method and command takes names.

A pattern is, in this order,

1. an exact name, also if it contains wildcards: `layers[0].w`;
2. `re:` and a regular expression, which is searched for in names: `re:^fc\d[.]bias$`;
3. a glob that matches whole names: `*` any text, `?` one character, `[abc]` one of these, `[!abc]` none of these;
4. a prefix of names: `encoder.`.

A later meaning counts only if the earlier ones match no name. Case matters on every platform. In brackets a wildcard
stands for itself: `[*]`, `[?]`, `[[]`. In Python a function of the name and a compiled regular expression are patterns,
too. Pure functions of texts; `index.matching` applies them to the names of a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from lazyckpt.errors import ArgumentTypeError, ArgumentValueError

Test = Callable[[str], object]
Pattern = str | re.Pattern[str] | Test
Patterns = Pattern | Iterable[Pattern]
REGULAR: Final = "re:"
_WILDCARD: Final = re.compile(r"[*?[]")
_LONGEST_SHOWN: Final = 200


def listed(patterns: Patterns) -> list[Pattern]:
    """One pattern or several, as a list.

    Raises:
        ArgumentTypeError: one of them is neither a string nor a function nor a compiled regular expression.
    """
    given: Iterable[Pattern]
    if isinstance(patterns, (str, bytes, re.Pattern)) or callable(patterns):
        given = [patterns]
    elif isinstance(patterns, Iterable):
        given = list(patterns)
    else:
        raise ArgumentTypeError(f"names or patterns of names are needed, not {type(patterns).__name__}")
    for pattern in given:
        is_text = isinstance(pattern, str) or (isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str))
        if not is_text and not callable(pattern):
            raise ArgumentTypeError(
                f"a name, a pattern or a function is needed, not {type(pattern).__name__} ({pattern!r:.80})"
            )
    return given


def is_glob(text: str) -> bool:
    """Whether a text contains a wildcard: `*`, `?` or `[`."""
    return _WILDCARD.search(text) is not None


def head_of(text: str) -> str:
    """The part of a glob before its first wildcard, with which every matching name starts."""
    return _WILDCARD.split(text, maxsplit=1)[0]


def escape(name: str) -> str:
    """A glob that matches this name only."""
    return _WILDCARD.sub(lambda found: f"[{found[0]}]", name)


def glob_test(text: str) -> Test:
    """Whether a glob matches a whole name; case matters on every platform.

    Raises:
        ArgumentValueError: the glob is not valid.
    """
    from fnmatch import translate  # its own `fnmatch` and `filter` ignore case on Windows

    return _compiled(translate(text), text).match


def walking_test(pattern: Pattern) -> Test | None:
    """The test of a pattern that says nothing of how its names begin: a function or a regular expression; else None.

    Raises:
        ArgumentValueError: the regular expression is not valid.
    """
    if isinstance(pattern, re.Pattern):
        return pattern.search
    if not isinstance(pattern, str):
        return pattern
    if pattern.startswith(REGULAR):
        return _compiled(pattern.removeprefix(REGULAR), pattern).search
    return None


def shown(pattern: object) -> str:
    """A pattern for messages: as Python writes it, long ones cut; a function by its name."""
    if isinstance(pattern, re.Pattern):
        pattern = f"{REGULAR}{pattern.pattern}"
    if isinstance(pattern, str):
        return repr(pattern if len(pattern) <= _LONGEST_SHOWN else pattern[:_LONGEST_SHOWN] + "…")
    return getattr(pattern, "__qualname__", type(pattern).__name__)


def _compiled(expression: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(expression)
    except (re.error, OverflowError, RecursionError) as error:
        raise ArgumentValueError(f"the pattern {shown(pattern)} is not valid: {error}") from None
