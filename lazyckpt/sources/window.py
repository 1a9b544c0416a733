"""Byte-wise looking at a source, for code that parses headers.

`look(source)` gives something that can be indexed (`b[i]`, `b[i:j]`) as if the whole source were in memory. For an
addressable source that is the source itself; for any other it is a `Window`, which fetches `source.window` bytes at a
time and remembers the last fetch, so that walking headers costs about one read per header and never a payload.
"""

from __future__ import annotations

from typing import overload

from lazyckpt.sources.base import Source


class Window:
    """Indexable bytes over a source; keeps one fetched run in memory. Not for use by several threads at once."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._start = 0
        self._run = b""

    def __len__(self) -> int:
        return self._source.size

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> bytes: ...
    def __getitem__(self, key: int | slice) -> int | bytes:
        """One byte as an int (IndexError past the end), or a run of bytes (cut at the end, as slices are)."""
        if isinstance(key, int):
            inside = key - self._start
            if not 0 <= inside < len(self._run):
                inside = self._fetch(key, 1)
            return self._run[inside]
        start, stop, _ = key.indices(self._source.size)
        inside = start - self._start
        if inside < 0 or stop - self._start > len(self._run):
            if stop <= start:
                return b""
            inside = self._fetch(start, stop - start)
        return self._run[inside : inside + stop - start]

    def _fetch(self, offset: int, needed: int) -> int:
        length = min(max(needed, self._source.window), self._source.size - offset)
        if length < needed:
            raise IndexError(offset)
        self._run = bytes(self._source.read(offset, length))
        self._start = offset
        return 0


def look(source: Source) -> memoryview | Window:
    """Something to index that shows the whole source.

    Cost: none here; a `Window` reads `source.window` bytes whenever a byte outside the last run is looked at.
    """
    return source.read(0, source.size) if source.window == 0 else Window(source)
