"""Ranges that were fetched, kept for a while within a budget of bytes."""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from collections import OrderedDict
from typing import Final

_LARGEST_SHARE: Final = 4  # a range of more than this part of the budget would drive out all others


class RangeCache:
    """The ranges that were used last, as many as fit. Safe for many threads."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._size = 0
        self._ranges: OrderedDict[int, memoryview] = OrderedDict()  # by their starts, the latest used last
        self._starts: list[int] = []
        self._turn = threading.Lock()

    def get(self, offset: int, length: int) -> memoryview | None:
        """The bytes of a range, if they lie in one that is kept."""
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
        """Whether a range of so many bytes is kept at all."""
        return length * _LARGEST_SHARE <= self._budget

    def put(self, start: int, data: memoryview) -> None:
        """Keep a range. One that begins at the same place and is shorter makes way."""
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
