"""What a source is: bytes at offsets, wherever they come from.

Everything above this room reads through one small protocol and never learns whether the bytes come from a memory map,
a file descriptor, a buffer, or (as other sources) from decryption or a network. A source is positional: it has no
cursor and may be read by many threads at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

import numpy as np

from lazyckpt.errors import ChangedFile
from lazyckpt.model.entry import Fingerprint

_WORTH_UNLOCKING: Final = 2**16  # bytes whose copy takes longer than what surrounds it
Request = tuple[int, memoryview]  # an offset, and the (writable, contiguous) bytes to fill from there


class LocalFile(NamedTuple):
    """A file of this machine that was opened.

    Attributes:
        path: from the root on.
        identity: its device and inode.
    """

    path: str
    identity: tuple[int, int]


class Source(Protocol):
    """Read-only random access to `size` bytes.

    Attributes:
        name: what to call it in messages: a path or a URL.
        size: number of bytes.
        is_addressable: whether `read` of any range copies nothing, and touches no byte until the view is looked at.
        window: how many bytes are worth fetching at once when headers are walked; 0 if it is addressable.
        window_limit: how far that number may grow while headers lie close together (0: it does not grow).
        fingerprint: of the version that was opened, where the store names versions; None for all other sources.
        prefetch_depth: how many later ranges are worth fetching at the same time as one (0: none).
    """

    name: str
    size: int
    is_addressable: bool
    window: int
    window_limit: int
    prefetch_depth: int

    @property
    def fingerprint(self) -> Fingerprint | None:
        """See `Source`."""

    @property
    def files(self) -> tuple[LocalFile, ...]:
        """The files of this machine that the bytes come from; none of what is in memory or elsewhere."""

    def read(self, offset: int, length: int) -> memoryview:
        """Give `length` bytes from `offset` as a read-only view.

        Cost: nothing for addressable sources; else one allocation of `length` bytes.

        Raises:
            ChangedFile: the range is not inside the source, or the file shrank since it was opened.
        """

    def read_into(self, offset: int, destination: memoryview) -> None:
        """Fill `destination` (writable, contiguous bytes) from `offset`, with no copy in between.

        Raises:
            ChangedFile: as for `read`.
        """

    def read_many(self, requests: Iterable[Request]) -> None:
        """Fill several (offset, destination) at once; sources that decrypt or fetch do the common work once.

        Raises:
            ChangedFile: as for `read`.
        """

    def prefetch(self, offset: int, length: int, alone: bool = False) -> None:
        """Hint that this range is about to be read whole, so that it can be brought in at once.

        `alone` hints further that nothing around it will be read next.
        """

    def advise_random(self, whether: bool) -> None:
        """Hint that single places far apart are about to be read (or no longer), so that nothing around them is."""

    def map_private(self, offset: int, length: int) -> memoryview | None:
        """A writable view of a range that is private to its holder (writes never reach the source), or None.

        Cost: one map of that range; only pages that are written to take memory.
        """

    def drop_pages(self, offset: int, length: int) -> None:
        """Hint that this range will not be looked at again soon, so that its pages need not stay in memory."""

    def close(self) -> None:
        """Let go of descriptors. Views already handed out stay valid. May be called twice."""


class BaseSource:
    """The finished half of a source: bounds are checked here, once; subclasses write `_fill` (and perhaps `_view`).

    `_fill(offset, destination)` is only ever called with a range inside the source and a destination that is not empty.
    """

    name: str
    size: int
    is_addressable: bool = False
    window: int = 4096
    window_limit: int = 0
    prefetch_depth: int = 0

    @property
    def fingerprint(self) -> Fingerprint | None:
        """See `Source`."""
        return None

    @property
    def files(self) -> tuple[LocalFile, ...]:
        """See `Source.files`."""
        return ()

    def read(self, offset: int, length: int) -> memoryview:
        """See `Source.read`."""
        self._check(offset, length)
        return self._view(offset, length)

    def read_into(self, offset: int, destination: memoryview) -> None:
        """See `Source.read_into`."""
        self._check(offset, destination.nbytes)
        if destination.nbytes:
            self._fill(offset, destination)

    def read_many(self, requests: Iterable[Request]) -> None:
        """See `Source.read_many`."""
        for offset, destination in requests:
            self.read_into(offset, destination)

    def prefetch(self, offset: int, length: int, alone: bool = False) -> None:
        """See `Source.prefetch`."""

    def advise_random(self, whether: bool) -> None:
        """See `Source.advise_random`."""

    def map_private(self, offset: int, length: int) -> memoryview | None:  # noqa: ARG002 (most sources have none)
        """See `Source.map_private`."""
        return None

    def drop_pages(self, offset: int, length: int) -> None:
        """See `Source.drop_pages`."""

    def close(self) -> None:
        """See `Source.close`."""

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ChangedFile(
                f"bytes {offset:,} to {offset + length:,} were asked for, but there are {self.size:,}", file=self.name
            )

    def _view(self, offset: int, length: int) -> memoryview:
        data = allocate(length)
        if length:
            self._fill(offset, data)
        return data.toreadonly()

    def _fill(self, offset: int, destination: memoryview) -> None:
        raise NotImplementedError


def allocate(size: int) -> memoryview:
    """Writable bytes, uninitialised. For large ones far cheaper than a bytearray (numpy asks for huge pages)."""
    return np.empty(size, np.uint8).data


def copy(destination: memoryview, data: memoryview) -> None:
    """Copy bytes; of many, without the interpreter's lock, so that other threads go on with their work."""
    if data.nbytes < _WORTH_UNLOCKING:
        destination[:] = data
    else:
        np.copyto(np.frombuffer(destination, np.uint8), np.frombuffer(data, np.uint8))


class BytesSource(BaseSource):
    """Bytes that are in memory already. Addressable."""

    is_addressable = True
    window = 0

    def __init__(self, data: bytes | bytearray | memoryview, name: str = "<bytes>") -> None:
        self._data = memoryview(data).cast("B").toreadonly()
        self.name = name
        self.size = self._data.nbytes

    def _view(self, offset: int, length: int) -> memoryview:
        return self._data[offset : offset + length]

    def _fill(self, offset: int, destination: memoryview) -> None:
        destination[:] = self._data[offset : offset + destination.nbytes]
