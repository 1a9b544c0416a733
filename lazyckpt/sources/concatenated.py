"""Several sources concatenated into one.

Readers need not know that there are several files. A range inside one part costs as much as in that part.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from lazyckpt.sources.base import BaseSource, LocalFile, Request, Source


class ConcatenatedSource(BaseSource):
    """The parts, one after the other. Addressable if all parts are; a range across a border is copied.

    Attributes:
        parts: the sources.
        bases: the offset at which each part begins.
    """

    def __init__(self, name: str, parts: Sequence[Source], maps: Iterable[LocalFile] = ()) -> None:
        """Join sources.

        Args:
            name: of the whole.
            parts: in order.
            maps: the files that say how the parts make up a whole: a listing, strategies.
        """
        self.name = name
        self.parts = tuple(parts)
        self._maps = tuple(maps)
        self.bases = (0, *accumulate(part.size for part in parts))[:-1]
        self.size = sum(part.size for part in parts)
        self.is_addressable = all(part.is_addressable for part in parts)
        self.window = max((part.window for part in parts), default=0)
        self.window_limit = max((part.window_limit for part in parts), default=0)

    @property
    def files(self) -> tuple[LocalFile, ...]:
        """See `Source.files`: those of the parts, and those that say how these belong together."""
        return (*(file for part in self.parts for file in part.files), *self._maps)

    def part_at(self, offset: int) -> int:
        """The number of the part that contains an offset (the last one, if empty parts share it)."""
        return bisect_right(self.bases, offset) - 1

    def snapshot(self, offset: int, length: int) -> memoryview:
        """See `Source.snapshot`."""
        self._check(offset, length)
        for number, inside, _, count in self._split(offset, length):
            if count == length:
                return self.parts[number].snapshot(inside, length)
            break
        return super()._view(offset, length)

    def read_many(self, requests: Iterable[Request]) -> None:
        """See `Source.read_many`: one call for each part."""
        by_part: dict[int, list[Request]] = {}
        for offset, destination in requests:
            self._check(offset, destination.nbytes)
            for number, inside, start, length in self._split(offset, destination.nbytes):
                by_part.setdefault(number, []).append((inside, destination[start : start + length]))
        for number, wanted in by_part.items():
            self.parts[number].read_many(wanted)

    def border(self, offset: int) -> int:
        """See `Source.border`: that of the part, or the end of the part."""
        number = self.part_at(offset)
        base, part = self.bases[number], self.parts[number]
        return base + min(part.border(offset - base), part.size)

    def map_private(self, offset: int, length: int) -> memoryview | None:
        """See `Source.map_private`: only of a range in one part."""
        for number, inside, _, count in self._split(offset, length):
            return self.parts[number].map_private(inside, count) if count == length else None
        return None

    def drop_pages(self, offset: int, length: int) -> None:
        """See `Source.drop_pages`."""
        for number, inside, _, count in self._split(offset, length):
            self.parts[number].drop_pages(inside, count)

    def close(self) -> None:
        """See `Source.close`."""
        for part in self.parts:
            part.close()

    def _view(self, offset: int, length: int) -> memoryview:
        for number, inside, _, count in self._split(offset, length):
            if count == length:
                return self.parts[number].read(inside, length)
            break
        return super()._view(offset, length)

    def _fill(self, offset: int, destination: memoryview) -> None:
        for number, inside, start, length in self._split(offset, destination.nbytes):
            self.parts[number].read_into(inside, destination[start : start + length])

    def _split(self, offset: int, length: int) -> Iterator[tuple[int, int, int, int]]:
        """Split a range at the borders of parts: (part, offset in it, bytes done, bytes)."""
        number, done = self.part_at(offset), 0
        while done < length:
            inside = offset + done - self.bases[number]
            count = min(self.parts[number].size - inside, length - done)
            if count > 0:
                yield number, inside, done, count
            done += max(0, count)
            number += 1
