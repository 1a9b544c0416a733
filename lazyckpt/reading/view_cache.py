"""Views of a value whose parts are asked for again and again.

A part costs little, a proof of the value's header several times as much. So after the first proof the header's bytes
are remembered, and compared with those of the file each time: all of them are looked at, for a part of the cost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from lazyckpt.model.entry import Entry
from lazyckpt.reading.allocation import AnyArray
from lazyckpt.reading.decoding import dtype_of, validate_bounds
from lazyckpt.sources.base import Source

_SHORT: Final = 1024  # bytes of a header that are compared rather than parsed
_MOST: Final = 64  # values remembered


class _Proven(NamedTuple):
    """A verified tensor in one piece: its location, and the bytes around its content at that time."""

    entry: Entry
    start: int
    size: int
    before: slice
    offset: int
    behind: slice
    dtype: np.dtype[Any]
    header: bytes
    trailer: bytes


class ViewCache:
    """The views of one addressable source. Safe for many threads."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._proven: dict[int, _Proven] = {}  # by the entry's id

    def again(self, entry: Entry) -> AnyArray | None:
        """A tensor's values, if it was proven before and its header still is what it was then.

        Raises:
            ChangedFile: see `Reader.view`.
        """
        known = self._proven.get(id(entry))
        if known is None or known.entry is not entry:
            return None
        _, start, size, before, offset, behind, dtype, header, trailer = known
        run = self._source.read(start, size)
        if run[before] != header or (trailer and run[behind] != trailer):
            return None
        array: AnyArray = np.ndarray(entry.shape, dtype, run, offset)
        return array

    def first(self, entry: Entry, proven: Callable[[Entry], AnyArray]) -> AnyArray:
        """A tensor's values, when they are asked for the first time.

        Args:
            entry: of a tensor in one piece.
            proven: proves an entry, and gives a view of it.

        Raises:
            StaleIndex, ChangedFile: see `Reader.view`.
        """
        seen = None if entry.apart else self._seen(entry)
        array = proven(entry)
        if seen is not None:  # and if the header was changed after it was seen, it will be proven again
            if len(self._proven) >= _MOST:
                self._proven.clear()
            self._proven[id(entry)] = seen
        return array

    def _seen(self, entry: Entry) -> _Proven | None:
        """A tensor with its header as it is; None if that is too long to be compared each time."""
        validate_bounds(entry, self._source)
        start, size, (offset, length) = entry.start, entry.stop - entry.start, entry.extents[0]
        if size - length > _SHORT:
            return None
        run = self._source.read(start, size)
        inside = offset - start
        before, behind = slice(None, inside), slice(inside + length, None)
        header, trailer = bytes(run[before]), bytes(run[behind])
        return _Proven(entry, start, size, before, inside, behind, dtype_of(entry).numpy, header, trailer)
