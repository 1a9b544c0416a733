"""Names similar to one that does not exist, for "did you mean" in messages.

Strategy: difflib's ratio is good and slow, so it sees few candidates. Of many names those are compared that share the
longest beginning and end with the text, which numpy finds in all of them at once. A pattern is corrected component by
component: each part between dots that occurs in no name is replaced by the nearest one that does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import Final

import numpy as np

from lazyckpt.errors import MissingName
from lazyckpt.model.patterns import REGULAR, escape, glob_test, head_of, is_glob, shown

Starting = Callable[[str, int], list[str]]  # up to so many names with a prefix
LOOKED_AT: Final = 20_000  # names, about 0.1 s
MOST: Final = 3  # names that are offered
_COMPARED: Final = 64  # texts that difflib compares with another
_CORRECTED: Final = 6  # components that are corrected at once
_CLOSE: Final = 0.6  # similarity, from 0 to 1, above which a text is offered
_LONGEST: Final = 128  # characters of a text that are compared
_WILDCARDS: Final = re.compile(r"([*?]+|\[[^\]]*\])")


def missing(
    pattern: object, names: Iterable[str], starting: Starting | None = None, *, is_exact: bool = False
) -> MissingName:
    """The error for a name or pattern that matches nothing.

    Args:
        pattern: the name or pattern.
        names: the names that exist. They are walked when the message is first shown.
        starting: gives up to so many names with a prefix at little cost, to find neighbours in large files.
        is_exact: whether a name was looked up, not a pattern.
    """
    is_name = is_exact or (isinstance(pattern, str) and not is_glob(pattern) and not pattern.startswith(REGULAR))
    what = None if is_name else f"no parameter matches {shown(pattern)}"
    return MissingName(pattern, what, Suggestions(pattern, names, starting) if isinstance(pattern, str) else ())


class Suggestions:
    """The names similar to a text, looked for when it is called."""

    def __init__(self, text: str, names: Iterable[str], starting: Starting | None = None) -> None:
        self._text = text
        self._names = names
        self._starting = starting

    def collect(self) -> None:
        """Copy the names to compare with, so that nothing is read later."""
        self._names, self._starting = self._known(), None

    def __call__(self) -> list[str]:
        """See `similar`."""
        return similar(self._text, self._known())

    def _known(self) -> list[str]:
        return list(islice(chain(_neighbours(self._text, self._starting), self._names), LOOKED_AT))


def _neighbours(text: str, starting: Starting | None) -> list[str]:
    """Names that share the longest possible beginning with a text."""
    if starting is None or not text or text.startswith(REGULAR):
        return []
    for end in range(min(len(head_of(text)), _LONGEST), 0, -1):
        found = starting(text[:end], LOOKED_AT // 10)
        if found:
            return found
    return []


def similar(text: str, names: Iterable[str]) -> list[str]:
    """Up to three names, or corrected patterns, that may have been meant.

    Args:
        text: a name or pattern that matches nothing.
        names: names that exist; at most 20,000 are looked at.

    Cost: some tenths of a second at most, whatever the number and length of the names.
    """
    if text.startswith(REGULAR):
        text = _literal(text.removeprefix(REGULAR))
    known = [name for name in dict.fromkeys(islice(names, LOOKED_AT)) if name != text]
    if not known or not text or len(text) > 2 * _LONGEST:
        return []
    found = _corrected(text, known)
    if not is_glob(text):
        ending = "." + text
        found += [name for name in known if name.endswith(ending)][:MOST]
        found += [f"*{escape(text)}*"] if not found and any(text in name for name in known) else []
        found += _nearest(text, known, MOST)
    return list(dict.fromkeys(found))[:MOST]


def _literal(expression: str) -> str:
    """The text that a simple regular expression stands for; empty if it is not simple."""
    text = expression.removeprefix("^").removesuffix("$").replace("[.]", ".").replace("\\.", ".")
    return "" if set(text) & set("\\[](){}*+?|^$") else text


def _nearest(text: str, known: list[str], most: int) -> list[str]:
    """The texts nearest to one, without regard to case."""
    import difflib

    wanted = text[:_LONGEST].lower()
    spelled: dict[str, str] = {}
    for other in _shortlist(text[:_LONGEST], known):
        spelled.setdefault(other[:_LONGEST].lower(), other)
    compared = difflib.SequenceMatcher(None, "", wanted)
    ratios: list[tuple[float, int, str]] = []
    for lower in spelled:
        compared.set_seq1(lower)
        if min(compared.real_quick_ratio(), compared.quick_ratio()) >= _CLOSE:
            ratios.append((-compared.ratio(), len(ratios), lower))
    return [spelled[lower] for negative, _, lower in sorted(ratios)[:most] if -negative >= _CLOSE]


def _shortlist(text: str, known: list[str]) -> list[str]:
    """The texts that share most characters at their beginning and end with a text."""
    if len(known) <= _COMPARED:
        return known
    shared = _shared(text, known) + _shared(text[::-1], [name[: -_LONGEST - 1 : -1] for name in known])
    apart = np.abs(np.fromiter(map(len, known), np.int64, len(known)) - len(text))
    best = np.argsort(apart - 2 * shared, kind="stable")[:_COMPARED]
    return [known[number] for number in best]


def _shared(text: str, known: list[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The number of characters at the beginning of each text that are those of `text`."""
    width = len(text)
    letters = np.array(known, f"<U{width}").view("<u4").reshape(len(known), width)
    other = letters != np.array([text], f"<U{width}").view("<u4")
    return np.where(other.any(axis=1), other.argmax(axis=1), width)


def _corrected(text: str, known: list[str]) -> list[str]:
    """The text with its unknown components replaced by the nearest known ones, if that matches a name."""
    words = {word for name in known for word in name[:_LONGEST].split(".")}
    vocabulary = sorted(words)
    parts = text.split(".")
    if sum(part not in words for part in parts) > _CORRECTED:
        return []
    parts = [part if part in words else _component(part, vocabulary) for part in parts]
    guess = ".".join(parts)
    tries = [guess, f"*{guess}"] if is_glob(guess) else [guess]
    for attempt in tries:
        if attempt != text and _matches(attempt, known):
            return [attempt]
    return []


def _component(part: str, vocabulary: list[str]) -> str:
    """A component with its literal pieces replaced by near words, unless it matches one as it is."""
    if not part or (is_glob(part) and _matches(part, vocabulary)):
        return part
    pieces = _WILDCARDS.split(part)
    for number in range(0, len(pieces), 2):  # every other piece is a wildcard
        piece = pieces[number]
        if piece and not any(piece in word for word in vocabulary):
            near = _nearest(piece, vocabulary, 1)
            pieces[number] = near[0] if near else piece
    return "".join(pieces)


def _matches(text: str, known: list[str]) -> bool:
    if is_glob(text):
        return any(map(glob_test(text), known))
    return any(name.startswith(text) for name in known)
