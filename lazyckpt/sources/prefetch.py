"""Where a walk will look next, so that distant places are fetched at the same time and not one after the other.

Strategy. Layers repeat: the steps from header to header of one layer are those of the layer before it, but for a digit
more or less in a name. So the last steps are looked for among the steps before them (as a compressor would); what
followed there is what is expected here. The longer the likeness, the more places are fetched ahead. A wrong guess costs
the bytes of its window and no time; what was not foreseen is fetched when it is looked at.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from lazyckpt.sources.base import Source, allocate

_TOLERANCE: Final = 16  # bytes by which steps that are alike may differ
_SLACK: Final = 64  # bytes fetched before a place, should it come earlier
_EVIDENCE: Final = 2  # steps that must be alike before anything is expected
_ENOUGH: Final = 32  # … and from which on no better likeness is looked for
_REMEMBERED: Final = 1024  # steps


def foreseen(steps: list[int], most: int) -> list[int]:
    """The steps that come next, if those so far repeat themselves.

    Args:
        steps: from place to place, the latest last.
        most: how many are wanted.

    Returns:
        As many as the likeness is worth: twice its own length, at most `most`; none without one.

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
    """Runs of bytes of a source, of which some were fetched before they were asked for."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._steps: deque[int] = deque(maxlen=_REMEMBERED)
        self._last = 0
        self._ready: deque[tuple[int, memoryview]] = deque()

    def run(self, offset: int, needed: int, length: int) -> memoryview:
        """A run that begins at a place and has at least `needed` bytes (`length` if it has to be fetched).

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
