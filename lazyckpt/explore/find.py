"""Search for names by patterns, in one index or in many checkpoints."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

from lazyckpt.errors import FileFault, LazyCkptError, MissingName
from lazyckpt.index import Index
from lazyckpt.index.build import open_fresh
from lazyckpt.index.matching import matches, require_matches, require_one
from lazyckpt.index.selection import AllNames
from lazyckpt.index.store import PARAM_KEY_MARK
from lazyckpt.model.entry import Entry
from lazyckpt.model.patterns import Patterns, listed
from lazyckpt.model.similar_names import LOOKED_AT, missing
from lazyckpt.sources import open_source
from lazyckpt.sources.encryption.keys import NO_KEY, OWN_MODE, KeyReference, late
from lazyckpt.sources.paths import resolved

_OPENED_AGAIN: Final = 8  # files whose names are suggested
_MOSTLY: Final = 4  # of so many names one must match for a walk to be cheaper than look-ups


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
    """Search many checkpoints for names.

    Args:
        pattern: a name or pattern, looked up in each file by itself (see `model.patterns`).
        paths: the files.
        key: where to find the key of encrypted files.

    Yields:
        The matches, file by file, in file order. A fault of a file is yielded, not raised.

    Cost: missing indexes are built; then see `index.matching.matches`. No payload is read.
    """
    for given in paths:
        yield from _found_in(os.fspath(given), pattern, key)


def _found_in(path: str, pattern: str, key: KeyReference) -> list[Found]:
    """The matches in one file, or its fault. A list, so that a search which is given up leaves no file open."""
    from lazyckpt.loading import open_all

    try:
        with open_all(path, late(key), OWN_MODE) as checkpoint:
            index = checkpoint.index
            return [Found(path, index.at(number)) for number in matches(AllNames(index), pattern).values()]
    except (LazyCkptError, OSError) as error:
        if isinstance(error, FileFault):
            error.file = None
        return [Found(path, None, str(error))]


def entries_like(index: Index, patterns: Patterns) -> Iterator[Entry]:
    """The entries whose names match any of some patterns, in file order; all entries if there are no patterns.

    Raises:
        MissingName: a pattern matches nothing.

    Cost: see `index.matching.matches`; then two look-ups for each match, or a walk over all entries.
    """
    if not listed(patterns):
        return index.entries()
    found = require_matches(AllNames(index), patterns)
    if len(found) * _MOSTLY > len(index):
        return (entry for entry in index.entries() if entry.name in found)
    return (index.at(ordinal) for ordinal in sorted(found.values()))


def one_entry(index: Index, pattern: str) -> Entry:
    """The one entry that a pattern matches, or the one with the shortened name that MindSpore uses.

    Raises:
        MissingName: nothing matches.
        ArgumentValueError: several names match.
    """
    if pattern not in index and (marked := index.with_prefix(pattern + PARAM_KEY_MARK)):
        return index.at(marked[0][1])
    return index[require_one(AllNames(index), pattern)]


def nothing_found(pattern: str, paths: Sequence[str], key: KeyReference = NO_KEY) -> MissingName:
    """The error for a pattern that matches nothing in any file, with similar names from the first files."""
    return missing(pattern, _names_in(paths[:_OPENED_AGAIN], key))


def _names_in(paths: Sequence[str], key: KeyReference) -> Iterator[str]:
    """Names of several files, equally many of each."""
    from lazyckpt.loading import open_all

    for path in paths:
        with open_all(path, late(key), OWN_MODE) as checkpoint:
            yield from islice(checkpoint.index, LOOKED_AT // len(paths))


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
