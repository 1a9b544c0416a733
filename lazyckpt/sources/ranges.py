"""Byte ranges: merge neighbours into fewer reads; cache the ranges that were fetched."""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from collections import OrderedDict
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

# Ranges with a smaller gap between them are read as one: a system call costs more than copying this many bytes.
COALESCE_GAP: Final = 4096
_LARGEST_SHARE: Final = 4  # a range larger than this fraction of the budget would evict all others


def coalesce(starts: npt.NDArray[np.int64], length: int, gap: int = COALESCE_GAP) -> list[tuple[int, int, slice]]:
    """Group ascending ranges of equal length into reads.

    Returns:
        For each read: its offset, its length, and the slice of `starts` that it covers.
    """
    if not len(starts):
        return []
    breaks = np.flatnonzero(np.diff(starts) > length + gap) + 1
    edges = [0, *breaks.tolist(), len(starts)]
    return [
        (int(starts[first]), int(starts[last - 1]) + length - int(starts[first]), slice(first, last))
        for first, last in pairwise(edges)
    ]


def spans(wanted: list[tuple[int, int]], gap: int, longest: int) -> list[tuple[int, int]]:
    """The ranges to fetch to cover all wanted ones.

    Args:
        wanted: (offset, length) in any order; they may overlap.
        gap: ranges with at most this many bytes between them are fetched as one.
        longest: longer ranges are split, so that their parts are fetched at the same time.

    Returns:
        (start, stop) pairs, ascending and disjoint.
    """
    runs: list[tuple[int, int]] = []
    for start, length in sorted(wanted):
        if not length:
            continue
        if runs and start <= runs[-1][1] + gap:
            runs[-1] = runs[-1][0], max(runs[-1][1], start + length)
        else:
            runs.append((start, start + length))
    return [(first, min(first + longest, stop)) for start, stop in runs for first in range(start, stop, longest)]


class RangeCache:
    """LRU cache of fetched ranges, within a budget of bytes. Thread-safe."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._size = 0
        self._ranges: OrderedDict[int, memoryview] = OrderedDict()  # by start, the last used at the end
        self._starts: list[int] = []
        self._turn = threading.Lock()

    def get(self, offset: int, length: int) -> memoryview | None:
        """The bytes of a range, if a cached range contains it."""
        with self._turn:
            number = bisect_right(self._starts, offset) - 1
            if number < 0:
                return None
            start = self._starts[number]
            data = self._ranges[start]
            if offset + length > start + data.nbytes:
                return None
            self._ranges.move_to_end(start)
            return data[offset - start : offset - start + length]

    def takes(self, length: int) -> bool:
        """Whether a range of this length is cached at all."""
        return length * _LARGEST_SHARE <= self._budget

    def put(self, start: int, data: memoryview) -> None:
        """Cache a range; it replaces a shorter one with the same start."""
        if not self.takes(data.nbytes):
            return
        with self._turn:
            known = self._ranges.get(start)
            if known is not None:
                if known.nbytes >= data.nbytes:
                    return
                self._drop(start)
            self._ranges[start] = data
            insort(self._starts, start)
            self._size += data.nbytes
            while self._size > self._budget:
                self._drop(next(iter(self._ranges)))

    def _drop(self, start: int) -> None:
        self._size -= self._ranges.pop(start).nbytes
        del self._starts[bisect_right(self._starts, start) - 1]
