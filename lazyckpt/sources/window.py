"""Indexable bytes over a source, for code that parses headers.

`as_buffer(source)` returns an object that can be indexed (`b[i]`, `b[i:j]`) as if the whole source were in memory. For
bytes in memory it is a view of all of them. For other sources, mapped files too, it is a `Window`, which fetches
`source.window` bytes at a time and keeps the last fetch, so that a scan costs about one read for each header and reads
no payload.
While headers are so close together that the next one begins where the last fetch ended, fetches grow, up to
`source.window_limit`. While they are far apart, the next headers are predicted and fetched together, if the source
asks for that (see `prefetch`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, overload

from lazyckpt.sources.base import Source, allocate
from lazyckpt.sources.prefetch import Prefetcher

_PIECE: Final = 2**20


class Window:
    """Indexable bytes over a source that keeps one fetched range in memory. Not thread-safe."""

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
        """One byte as an int (IndexError past the end), or a slice (cut at the end, like any slice)."""
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
        """The fetched range that contains a position, and its offset.

        Args:
            position: an offset inside the source.
            fresh: fetch a range that begins at `position`, unless the current one does.
        """
        inside = position - self._start
        if not 0 <= inside < len(self._run) or (fresh and inside):
            self._fetch(position, 1)
        return self._run, self._start

    @property
    def view(self) -> memoryview:
        """The bytes that were fetched last. They may be overwritten by the next fetch."""
        return self._run

    def view_at(self, position: int) -> tuple[memoryview, int]:
        """The fetched range that contains a position, and its offset."""
        return self.run_from(position, fresh=False)

    def _fetch(self, offset: int, needed: int) -> int:
        gap = offset - (self._start + len(self._run))
        close = bool(self._run) and -len(self._run) <= gap <= self._reach
        self._reach = min(2 * self._reach, self._source.window_limit) if close else self._source.window
        self._reach = max(self._reach, self._source.window)
        length = min(max(needed, self._reach), self._source.size - offset)
        if length < needed:
            raise IndexError(offset)
        if self._prefetcher is None or close:
            self._run = self._source.snapshot(offset, length)
        else:
            self._run = self._prefetcher.run(offset, needed, length)
        self._start = offset
        return 0


def as_buffer(source: Source) -> memoryview | Window:
    """The whole source as an indexable object.

    Cost: none here; a `Window` reads `source.window` bytes or more for each index outside the last range.
    """
    return Window(source) if source.window else source.read(0, source.size)


def pieces_of(source: Source, offset: int, length: int) -> Iterator[memoryview]:
    """The bytes of a range, 1 MiB at a time; each piece is valid until the next is asked for.

    Raises: as `Source.read_into`.
    """
    if not source.window:
        yield source.read(offset, length)
        return
    buffer = allocate(min(length, _PIECE))
    for done in range(0, length, _PIECE):
        piece = buffer[: length - done]
        source.read_into(offset + done, piece)
        yield piece


class SparseBuffer:
    """Ranges of a source that have been read, indexable by source offsets."""

    def __init__(self, pieces: list[tuple[int, memoryview]]) -> None:
        """Take (offset, bytes) pairs in ascending order, none of them empty."""
        self._pieces = pieces
        self._offsets = [offset for offset, _ in pieces]

    def moved(self, by: int) -> SparseBuffer:
        """The same ranges, with `by` added to each offset."""
        return SparseBuffer([(offset + by, piece) for offset, piece in self._pieces])

    def run_at(self, position: int) -> tuple[memoryview, int]:
        """The range that contains a position, and its offset; an empty range if there is none."""
        number = bisect_right(self._offsets, position) - 1
        return (memoryview(b""), position) if number < 0 else (self._pieces[number][1], self._offsets[number])

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> memoryview: ...
    def __getitem__(self, key: int | slice) -> int | memoryview:
        """One byte, or a slice of one range.

        Raises:
            IndexError: it is not inside one range.
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
