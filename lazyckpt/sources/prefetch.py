"""Predict the next headers of a scan, to fetch distant ones together and not one by one.

Strategy. Layers repeat: the distances from header to header in one layer equal those in the layer before, give or take
a digit in a name. So the last distances are searched for among the earlier ones, as a compressor searches for a match,
and the distances that followed the match are the prediction. The longer the match, the more headers are fetched ahead.
A wrong prediction costs the bytes of its window but no extra request; a header that was not predicted is fetched when
it is read.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from lazyckpt.sources.base import Source, allocate

_TOLERANCE: Final = 16  # bytes by which two distances may differ and still match
_SLACK: Final = 64  # bytes fetched before a predicted offset, in case the header comes earlier
_EVIDENCE: Final = 2  # the shortest match that counts
_ENOUGH: Final = 32  # … and the length at which the search for a longer one ends
_REMEMBERED: Final = 1024  # distances


def foreseen(steps: list[int], most: int) -> list[int]:
    """Predict the next distances, if the last ones repeat earlier ones.

    Args:
        steps: the distances from header to header, the latest last.
        most: the maximum number of predictions.

    Returns:
        Twice as many distances as the match is long, at most `most`; none without a match.

    Cost: O(steps), some hundred microseconds for a thousand.
    """
    last = len(steps) - 1
    length, end = 0, -1
    for place in range(last - 1, -1, -1):
        alike = 0
        while alike <= place and alike < _ENOUGH and abs(steps[place - alike] - steps[last - alike]) <= _TOLERANCE:
            alike += 1
        if alike > length:
            length, end = alike, place
        if length == _ENOUGH:
            break
    if length < _EVIDENCE:
        return []
    known = list(steps)
    for place in range(end + 1, end + 1 + min(most, 2 * length)):
        known.append(known[place])
    return known[len(steps) :]


class Prefetcher:
    """Fetches ranges of a source, some of them before they are requested."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._steps: deque[int] = deque(maxlen=_REMEMBERED)
        self._last = 0
        self._ready: deque[tuple[int, memoryview]] = deque()

    def run(self, offset: int, needed: int, length: int) -> memoryview:
        """Bytes from an offset on: at least `needed`, and `length` if they have to be fetched.

        Raises: as `Source.read_many`.
        """
        self._steps.append(offset - self._last)
        self._last = offset
        while self._ready:
            start, data = self._ready[0]
            if offset < start or offset + needed <= start + data.nbytes:
                break
            self._ready.popleft()
        if self._ready and self._ready[0][0] <= offset:
            start, data = self._ready.popleft()
            return data[offset - start :]
        return self._fetched(offset, length)

    def _fetched(self, offset: int, length: int) -> memoryview:
        place, end = offset, offset + length
        ahead: list[tuple[int, memoryview]] = []
        for step in foreseen(list(self._steps), self._source.prefetch_depth):
            place += step
            start = max(end, place - _SLACK)
            stop = min(place + self._source.window, self._source.size)
            if start < stop:
                ahead.append((start, allocate(stop - start)))
                end = stop
        run = allocate(length)
        self._source.read_many([(offset, run), *ahead])
        self._ready = deque((start, data.toreadonly()) for start, data in ahead)
        return run.toreadonly()
