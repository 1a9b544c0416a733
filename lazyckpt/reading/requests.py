"""A pending read: the byte ranges to fill, and the check to run before the value is returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from lazyckpt.formats.digest import Digesting
from lazyckpt.model.entry import Entry, Extent
from lazyckpt.reading.allocation import AnyArray
from lazyckpt.reading.decoding import bytes_of
from lazyckpt.reading.slicing import Plan
from lazyckpt.sources.base import Request
from lazyckpt.sources.ranges import coalesce

_SAMPLES: Final = 17  # ranges of a content that stand for it
_SAMPLE: Final = 256  # bytes of each


class PendingRead(NamedTuple):
    """A pending read: fill `requests`, then `finish` verifies the header and gives the value."""

    requests: list[Request]
    finish: Callable[[], Any]

    def alone(self) -> PendingRead:
        """The same, whose `finish` gives a list of the one value."""
        return PendingRead(self.requests, lambda: [self.finish()])


class HeaderCheck(NamedTuple):
    """Header bytes to be read, and the check of them."""

    entry: Entry
    file: str
    requests: list[Request]
    check: Callable[[], None]

    def then(self, requests: list[Request], value: Callable[[], Any], *, whole: bool = True) -> PendingRead:
        """A pending read that gives `value()` once the header, and the digest if any, are verified."""

        def finish() -> Any:
            self.check()
            if whole:
                check = Digesting(self.entry, self.file)
                for _, content in requests:
                    check.update(content)
                check.finish()
            return value()

        return PendingRead([*self.requests, *requests], finish)


def samples_of(length: int) -> list[tuple[int, int]]:
    """Ranges (start, length) that stand for a content: all of a small one, else both ends, the middle and more."""
    if length <= _SAMPLES * _SAMPLE:
        return [(0, length)] if length else []
    return [((length - _SAMPLE) * number // (_SAMPLES - 1), _SAMPLE) for number in range(_SAMPLES)]


def requests_for(extents: tuple[Extent, ...], target: AnyArray) -> list[Request]:
    """What fills an array from the extents of its value, in their order."""
    requests, destination, done = [], bytes_of(target), 0
    for offset, length in extents:
        requests.append((offset, destination[done : done + length]))
        done += length
    return requests


def gather(
    extents: tuple[Extent, ...], planned: Plan, destination: memoryview
) -> tuple[list[Request], Callable[[], None]]:
    """Requests for the planned runs of a value in `extents`, and the step that orders them."""
    starts, length = planned.starts, planned.length
    if len(starts) == 1:
        return within(extents, int(starts[0]), destination), lambda: None
    order = np.argsort(starts, kind="stable")
    requests: list[Request] = []
    pieces: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint8]]] = []
    for offset, size, covered in coalesce(starts[order], length) if length else []:
        piece = np.empty(size, np.uint8)
        requests += within(extents, offset, piece.data)
        pieces.append((order[covered], starts[order[covered]] - offset, piece))

    def scatter() -> None:
        for rows, inside, piece in pieces:
            windows = np.lib.stride_tricks.sliding_window_view(piece, length)
            np.frombuffer(destination, np.uint8).reshape(-1, length)[rows] = windows[inside]

    return requests, scatter


def within(extents: tuple[Extent, ...], offset: int, destination: memoryview) -> list[Request]:
    """Requests that fill `destination` from byte `offset` of the value stored in `extents`."""
    requests, done = [], 0
    for begin, length in extents:
        count = min(length - offset, destination.nbytes - done)
        if count > 0:
            requests.append((begin + offset, destination[done : done + count]))
            done += count
        offset = max(0, offset - length)
    return requests
