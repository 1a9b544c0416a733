"""Names and patterns of names."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from typing import Final

_SIGNS: Final = frozenset("*?[")


def is_pattern(text: str) -> bool:
    """Whether a text has any of a pattern's signs: `*`, `?`, `[`."""
    return bool(_SIGNS & set(text))


def matcher(wanted: Iterable[str]) -> Callable[[str], bool]:
    """Whether a name is one of those wanted, or matches one of the patterns among them (`*`, `?`, `[abc]`)."""
    names = set(wanted)
    patterns = [re.compile(fnmatch.translate(text)) for text in sorted(names) if is_pattern(text)]
    return lambda name: name in names or any(pattern.match(name) for pattern in patterns)
