"""The `Source` protocol: random access to bytes; and a base class that checks bounds.

Everything above this room reads through the protocol, and does not know whether the bytes come from a memory map, a
file descriptor, a buffer, decryption or a network. Reads are positional: a source has no cursor, so many threads may
read at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

import numpy as np

from lazyckpt.errors import ChangedFile
from lazyckpt.model.entry import Fingerprint

_WORTH_UNLOCKING: Final = 2**16  # bytes from which a copy takes longer than releasing the interpreter's lock
_DIVIDED: Final = 2**22  # bytes of a long read from which its parts cost no more than the whole
Request = tuple[int, memoryview]  # an offset, and the writable, contiguous buffer to fill from there


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
        name: the name in messages: a path or a URL.
        size: number of bytes.
        is_addressable: whether `read` of any range copies nothing, and reads nothing until the view is used.
        window: how many bytes to fetch at once while headers are scanned; 0 for bytes in memory.
        window_limit: how far the window may grow while headers are close together (0: it does not grow).
        fingerprint: of the version that was opened, if the store names versions; None for all other sources.
        prefetch_depth: how many later ranges to fetch together with one (0: none).
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
        """The local files that the bytes come from; empty for bytes in memory and remote objects."""

    def read(self, offset: int, length: int) -> memoryview:
        """A read-only view of `length` bytes from `offset`.

        Cost: none for an addressable source; else an allocation of `length` bytes, and the read.

        Raises:
            ChangedFile: the range is not inside the source, or the file shrank since it was opened.
        """

    def snapshot(self, offset: int, length: int) -> memoryview:
        """`read`, but of a file a copy: bytes that stay what they are when the file is changed or truncated.

        For everything that looks at the bytes itself. The process ends when it touches a view of bytes that a file no
        longer has.

        Cost: an allocation of `length` bytes and the read; none for bytes in memory.

        Raises:
            ChangedFile: as for `read`.
        """

    def read_into(self, offset: int, destination: memoryview) -> None:
        """Fill `destination` (writable, contiguous bytes) from `offset`, without a copy between.

        Raises:
            ChangedFile: as for `read`.
        """

    def read_many(self, requests: Iterable[Request]) -> None:
        """Fill several (offset, destination) at once. A source decrypts or fetches common bytes once.

        Raises:
            ChangedFile: as for `read`.
        """

    def border(self, offset: int) -> int:
        """The first offset after `offset` at which a long ascending read is divided at no cost.

        A reader with little memory reads up to there at once.
        """

    def advise_random(self, whether: bool) -> None:
        """Hint that reads will be small and far apart (or no longer): no read-ahead."""

    def map_private(self, offset: int, length: int) -> memoryview | None:
        """A writable, private view of a range, or None; writes never reach the source.

        Cost: one map of the range; only pages that are written to take memory.
        """

    def drop_pages(self, offset: int, length: int) -> None:
        """Hint that this range will not be read again soon, so that its pages may leave memory."""

    def close(self) -> None:
        """Close descriptors. Views that were returned stay valid. May be called twice."""


class BaseSource:
    """Base class that checks bounds, once; subclasses implement `_fill` (and perhaps `_view`).

    `_fill(offset, destination)` is called only with a range inside the source and a destination that is not empty.
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

    def snapshot(self, offset: int, length: int) -> memoryview:
        """See `Source.snapshot`."""
        return self.read(offset, length)

    def read_into(self, offset: int, destination: memoryview) -> None:
        """See `Source.read_into`."""
        self._check(offset, destination.nbytes)
        if destination.nbytes:
            self._fill(offset, destination)

    def read_many(self, requests: Iterable[Request]) -> None:
        """See `Source.read_many`."""
        for offset, destination in requests:
            self.read_into(offset, destination)

    def border(self, offset: int) -> int:
        """See `Source.border`."""
        return (offset // _DIVIDED + 1) * _DIVIDED

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
                f"bytes {offset:,} to {offset + length:,} were requested, but there are {self.size:,}", file=self.name
            )

    def _view(self, offset: int, length: int) -> memoryview:
        data = allocate(length)
        if length:
            self._fill(offset, data)
        return data.toreadonly()

    def _fill(self, offset: int, destination: memoryview) -> None:
        raise NotImplementedError


def allocate(size: int) -> memoryview:
    """Allocate writable, uninitialised bytes. Cheaper than a bytearray: no zeroing, and huge pages from numpy."""
    return np.empty(size, np.uint8).data


def copy(destination: memoryview, data: memoryview) -> None:
    """Copy bytes. A large copy releases the interpreter's lock, so that other threads continue."""
    if data.nbytes < _WORTH_UNLOCKING:
        destination[:] = data
    else:
        np.copyto(np.frombuffer(destination, np.uint8), np.frombuffer(data, np.uint8))


class BytesSource(BaseSource):
    """A source over bytes in memory. Addressable."""

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
