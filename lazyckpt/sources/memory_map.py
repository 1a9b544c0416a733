"""Memory maps that need no descriptor, bounded in number.

Python's `mmap.mmap` keeps a duplicate of the descriptor as long as the map exists (`trackfd=False` came with 3.13), and
a process may have about a thousand descriptors but 65,530 maps. The kernel needs none: a map keeps its file alive by
itself. So the C library is called directly. At most half of the maps that a process may have are made here; the others
are left to the program, whose threads and large allocations are maps, too.

The bytes are exported through a numpy array, so every view, of any kind, keeps the map. It is unmapped with the last of
them.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import os
from collections.abc import Callable
from typing import Any, Final

import numpy as np

_POINTER: Final = 8  # bytes where every C library has offsets of 64 bits
_FAILED: Final = ctypes.c_void_p(-1).value
_SHARE: Final = 2  # one part in so many of the maps that the process may have
_USUAL_LIMIT: Final = 65_530
_mapped: set[int] = set()  # the addresses of the maps that exist; changed in single steps, so no lock is needed


def _function(name: str, result: Any, *arguments: Any) -> Any:
    """A function of the C library; None if it cannot be called (Windows, a program without dynamic linking)."""
    try:
        found = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (OSError, AttributeError, TypeError):
        return None
    found.restype, found.argtypes = result, arguments
    return found


_mmap: Final = _function(
    "mmap", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
)
_munmap: Final = _function("munmap", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
_madvise: Final = _function("madvise", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class MemoryMap:
    """A range of a file in memory: read-only and shared, or writable and private.

    Attributes:
        view: the bytes; they stay mapped as long as this or any view of them exists.
    """

    __slots__ = ("_pages", "view")

    def __init__(self, descriptor: int, length: int, offset: int = 0, *, private: bool = False) -> None:
        """Map a range, which must lie in the file.

        Args:
            descriptor: of the file; it may be closed afterwards.
            length: bytes, at least one.
            offset: a multiple of `mmap.ALLOCATIONGRANULARITY`.
            private: the memory is writable, and no write reaches the file.

        Raises:
            OSError: the system refuses it, or this process has too many maps.
        """
        if len(_mapped) >= most_maps():
            raise OSError(errno.ENOMEM, "too many memory maps (half of vm.max_map_count)")
        self._pages = _Pages(descriptor, length, offset, private)
        self.view: memoryview = np.asarray(self._pages).data

    def madvise(self, advice: int, start: int, length: int) -> None:
        """Advise the kernel about a range that begins with a page. Raises OSError if it refuses."""
        self._pages.madvise(advice, start, length)


class _Pages:
    """Owns mapped memory, and exports it by numpy's array interface."""

    def __init__(self, descriptor: int, length: int, offset: int, private: bool) -> None:
        if _mmap is None or ctypes.sizeof(ctypes.c_void_p) != _POINTER:
            raise OSError(errno.ENOSYS, "this system has no memory maps that can be used")
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if private else 0)
        address = _mmap(None, length, protection, mmap.MAP_PRIVATE if private else mmap.MAP_SHARED, descriptor, offset)
        if address == _FAILED:
            raise _last_error()
        self._address, self._length = address, length
        _mapped.add(address)
        self.__array_interface__ = {
            "version": 3, "typestr": "|u1", "shape": (length,), "data": (address, not private),
        }  # fmt: skip

    def madvise(self, advice: int, start: int, length: int) -> None:
        """See `MemoryMap.madvise`."""
        if not 0 <= start <= start + length <= self._length:
            raise ValueError(f"bytes {start:,} to {start + length:,} are outside the map")
        if _madvise(self._address + start, length, advice):
            raise _last_error()

    def __del__(
        self, unmap: Callable[[int, int], int] = _munmap, forget: Callable[[int], None] = _mapped.discard
    ) -> None:
        # The functions are bound above: when Python ends, the names of this module may be None already.
        address = getattr(self, "_address", None)
        if address is not None:
            forget(address)  # first, because another thread may get the same address for its map
            unmap(address, self._length)


@functools.cache
def most_maps() -> int:
    """The number of maps that may exist at a time: half of the limit of a process."""
    try:
        with open("/proc/sys/vm/max_map_count", encoding="ascii") as file:
            return int(file.read()) // _SHARE
    except (OSError, ValueError):  # another system than Linux, or no descriptor is left
        return _USUAL_LIMIT // _SHARE


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
