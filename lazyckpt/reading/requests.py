"""A pending read: the byte ranges to fill, and the check to run before the value is returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from lazyckpt.formats.digest import Digesting
from lazyckpt.model.entry import Entry, Extent
from lazyckpt.reading.allocation import AnyArray
from lazyckpt.reading.decoding import bytes_of
from lazyckpt.sources.base import Request

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
