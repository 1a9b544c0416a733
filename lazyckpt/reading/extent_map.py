"""Where the bytes of a value are in its file: offsets in the value to offsets in the source."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from lazyckpt.model.entry import Extent
from lazyckpt.sources.base import Request


class ExtentMap:
    """The extents of a value, searched by offsets in the value.

    Cost: linear in the extents, once; a search takes the logarithm of their number.
    """

    def __init__(self, extents: tuple[Extent, ...]) -> None:
        # Without empty extents the starts ascend strictly, so each step of `requests` advances.
        self._extents = [extent for extent in extents if extent.length]
        self._starts = [0, *accumulate(extent.length for extent in self._extents)]

    def requests(self, offset: int, destination: memoryview) -> list[Request]:
        """Requests that fill `destination` from byte `offset` of the value: one for each extent that it meets.

        Raises:
            IndexError: the value ends before `destination` is full.
        """
        requests: list[Request] = []
        number, done, wanted = bisect_right(self._starts, offset) - 1, 0, destination.nbytes
        while done < wanted:
            begin, length = self._extents[number]
            inside = offset + done - self._starts[number]
            count = min(length - inside, wanted - done)
            requests.append((begin + inside, destination[done : done + count]))
            done += count
            number += 1
        return requests
