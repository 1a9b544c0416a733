"""Search for names by prefix or pattern, in one index or in many checkpoints."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from lazyckpt.errors import FileFault, LazyCkptError
from lazyckpt.index import Index
from lazyckpt.index.build import open_fresh
from lazyckpt.index.store import PARAM_KEY_MARK
from lazyckpt.model.entry import Entry
from lazyckpt.sources import open_source
from lazyckpt.sources.encryption.keys import NO_KEY, OWN_MODE, KeyReference, late
from lazyckpt.sources.paths import resolved

_SIGNS: Final = frozenset("*?[")


class Found(NamedTuple):
    """A parameter that was found, or the fault of a file that could not be searched.

    Attributes:
        path: the file.
        entry: the entry of the parameter; None if the file has a fault.
        error: the fault, without the path, or empty.
    """

    path: str
    entry: Entry | None
    error: str = ""


def find(pattern: str, paths: Iterable[str | os.PathLike[str]], key: KeyReference = NO_KEY) -> Iterator[Found]:
    """Search many checkpoints for a name.

    Args:
        pattern: a name, or a pattern such as `'*.bias'`.
        paths: the files.
        key: where to find the key of encrypted files.

    Yields:
        The matches, file by file, in file order. A fault of a file is yielded, not raised.

    Cost: missing indexes are built. A name costs a look-up; a pattern with a literal prefix costs its matches, any
    other a walk over the names. No payload is read.
    """
    from lazyckpt.loading import open_all

    for given in paths:
        path = os.fspath(given)
        try:
            with open_all(path, late(key), OWN_MODE) as checkpoint:
                yield from (Found(path, entry) for entry in _wanted(checkpoint.index, pattern))
        except (LazyCkptError, OSError) as error:
            if isinstance(error, FileFault):
                error.file = None
            yield Found(path, None, str(error))


def entries_like(index: Index, text: str) -> Iterator[Entry]:
    """The entries whose names start with a text, or match it if it is a pattern, in file order.

    Cost: O(names with the literal prefix); without a prefix, a walk over all.
    """
    if not text:
        yield from index.entries()
        return
    plain = re.split(r"[*?[]", text, maxsplit=1)[0]
    pattern = re.compile(fnmatch.translate(text)) if is_pattern(text) else None
    if plain:
        candidates = (index.at(ordinal) for name, ordinal in index.with_prefix(plain) if _fits(name, text, pattern))
    else:
        candidates = (entry for entry in index.entries() if _fits(entry.name, text, pattern))
    yield from candidates


def entry_named(index: Index, name: str) -> Entry | None:
    """The entry of a name in the file, or of the shortened name that MindSpore uses; None if neither exists."""
    found = index.get(name)
    if found is None:
        marked = index.with_prefix(name + PARAM_KEY_MARK)
        found = index.at(marked[0][1]) if marked else None
    return found


def known_names(path: str, prefix: str, most: int = 100) -> list[str]:
    """Names that start with a prefix, from an existing fresh index; empty without one. Never raises.

    For shell completion: no index is built, and no key is requested.
    """
    try:
        opened = open_source(resolved(path))
        try:
            found = open_fresh(opened)
            if found is None:
                return []
            with_prefix = found.index.with_prefix(prefix)[:most]
            found.index.close()
            return [name for name, _ in with_prefix]
        finally:
            opened.source.close()
    except (LazyCkptError, OSError, ValueError):
        return []


def _wanted(index: Index, pattern: str) -> Iterator[Entry]:
    exact = index.get(pattern)
    if exact is not None:
        yield exact
    elif is_pattern(pattern):
        regular = re.compile(fnmatch.translate(pattern))
        yield from (entry for entry in entries_like(index, pattern) if regular.match(entry.name))


def _fits(name: str, text: str, pattern: re.Pattern[str] | None) -> bool:
    return name.startswith(text) or (pattern is not None and bool(pattern.match(name)))


def is_pattern(text: str) -> bool:
    """Whether a text contains a wildcard: `*`, `?` or `[`."""
    return bool(_SIGNS & set(text))


def matcher(wanted: Iterable[str]) -> Callable[[str], bool]:
    """A function that accepts the given names, and names that match a given pattern (`*`, `?`, `[abc]`)."""
    names = set(wanted)
    patterns = [re.compile(fnmatch.translate(text)) for text in sorted(names) if is_pattern(text)]
    return lambda name: name in names or any(pattern.match(name) for pattern in patterns)
