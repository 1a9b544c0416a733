"""A source that records its reads, for tests of laziness."""

from __future__ import annotations

from lazyckpt.sources.base import BaseSource


class TracingSource(BaseSource):
    """Bytes that are returned in copies of `window` bytes at a time, as from a network.

    Attributes:
        reads: the (offset, length) of every read, in order.
    """

    def __init__(self, data, window=1, window_limit=0):
        """With a window of one byte, only requested bytes are read."""
        self.name = "<traced>"
        self.size = len(data)
        self.window = window
        self.window_limit = window_limit
        self.reads = []
        self._data = bytes(data)

    def _fill(self, offset, destination):
        self.reads.append((offset, destination.nbytes))
        destination[:] = self._data[offset : offset + destination.nbytes]

    def looked_at(self):
        """The offsets of all bytes that were read."""
        return {place for offset, length in self.reads for place in range(offset, offset + length)}


def places(extents):
    """The offsets of all bytes in these extents."""
    return {place for offset, length in extents for place in range(offset, offset + length)}
