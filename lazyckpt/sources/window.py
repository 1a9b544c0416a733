"""Looking at the bytes of a source one by one, for code that parses headers.

`as_buffer(source)` gives something that can be indexed (`b[i]`, `b[i:j]`) as if the whole source were in memory. For an
addressable source that is the source itself; for any other it is a `Window`, which fetches `source.window` bytes at a
time and remembers the last fetch, so that walking headers costs about one read a header and no payload. While headers
lie so close together that the next one begins where the last fetch ended, a fetch grows, up to `source.window_limit`.
While they lie far apart, those to come are fetched along, where the source says that this pays (see `prefetch`).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import overload

from lazyckpt.sources.base import Source
from lazyckpt.sources.prefetch import Prefetcher


class Window:
    """Indexable bytes over a source; keeps one fetched run in memory. Not for use by several threads at once."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._start = 0
        self._run = memoryview(b"")
        self._reach = source.window
        self._prefetcher = Prefetcher(source) if source.prefetch_depth else None

    def __len__(self) -> int:
        return self._source.size

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> memoryview: ...
    def __getitem__(self, key: int | slice) -> int | memoryview:
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
                return memoryview(b"")
            inside = self._fetch(start, stop - start)
        return self._run[inside : inside + max(0, stop - start)]

    def run_from(self, position: int, fresh: bool) -> tuple[memoryview, int]:
        """The fetched run that holds a position, and the offset at which it begins.

        Args:
            position: an offset inside the source.
            fresh: fetch a run that begins at `position`, unless the present one does.
        """
        inside = position - self._start
        if not 0 <= inside < len(self._run) or (fresh and inside):
            self._fetch(position, 1)
        return self._run, self._start

    def _fetch(self, offset: int, needed: int) -> int:
        gap = offset - (self._start + len(self._run))
        close = bool(self._run) and -len(self._run) <= gap <= self._reach
        self._reach = min(2 * self._reach, self._source.window_limit) if close else self._source.window
        self._reach = max(self._reach, self._source.window)
        length = min(max(needed, self._reach), self._source.size - offset)
        if length < needed:
            raise IndexError(offset)
        if self._prefetcher is None or close:
            self._run = self._source.read(offset, length)
        else:
            self._run = self._prefetcher.run(offset, needed, length)
        self._start = offset
        return 0


def as_buffer(source: Source) -> memoryview | Window:
    """Something to index that shows the whole source.

    Cost: none here; a `Window` reads `source.window` bytes or more when a byte outside the last run is looked at.
    """
    return source.read(0, source.size) if source.is_addressable else Window(source)


class SparseBuffer:
    """Pieces of a source that were read already, indexable by their offsets in it."""

    def __init__(self, pieces: list[tuple[int, memoryview]]) -> None:
        """Take (offset, bytes) in ascending order, none of them empty."""
        self._pieces = pieces
        self._offsets = [offset for offset, _ in pieces]

    def moved(self, by: int) -> SparseBuffer:
        """The same pieces, `by` bytes further on."""
        return SparseBuffer([(offset + by, piece) for offset, piece in self._pieces])

    def run_at(self, position: int) -> tuple[memoryview, int]:
        """The piece that holds a position, and the offset at which it begins; an empty one if none does."""
        number = bisect_right(self._offsets, position) - 1
        return (memoryview(b""), position) if number < 0 else (self._pieces[number][1], self._offsets[number])

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> memoryview: ...
    def __getitem__(self, key: int | slice) -> int | memoryview:
        """One byte, or a run of bytes of one piece.

        Raises:
            IndexError: it is not (wholly) in a piece.
        """
        start, stop = (key, key + 1) if isinstance(key, int) else (key.start, key.stop)
        number = bisect_right(self._offsets, start) - 1
        if number >= 0:
            offset, piece = self._pieces[number]
            if stop <= offset + piece.nbytes:
                return piece[start - offset] if isinstance(key, int) else piece[start - offset : stop - offset]
        if start == stop:
            return memoryview(b"")
        raise IndexError(start)
