"""A bounded pool of descriptors: files stay open while there is room, and are opened again when they are used.

Strategy. A process may have about a thousand open files, and a checkpoint of a large run has more. The pool keeps at
most half of the limit open (`ulimit -n`); the other half is for the program. Beyond that, the file that was not used
for longest is closed: a clock walks over the files in the order in which they were opened, and passes over those that
were used since it came last. So a use costs a flag, not a lock.

A file that was closed is opened again by its path, which may lead to another file by then. No byte of it is read
before it is proven to be the same: by device and inode, by size and time of the last change, and where these differ by
the proof of its owner. A file that stays open is never looked up again, so it is read on after it was replaced or
removed.

A descriptor is closed after its last reader, so its number is never reused during a read. Safe for many threads, and
across fork: a child has the descriptors of its parent, and a lock of its own.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from lazyckpt.errors import ChangedFile, MissingFile
from lazyckpt.runtime.os_errors import LIMITS, READ, translated

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

_SHARE: Final = 2  # the pool takes one part in so many of the descriptors that the process may have
_FEWEST: Final = 4
# O_NONBLOCK: opening a pipe would wait for its writer.
_FLAGS: Final = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_MEANWHILE: Final = (
    "after it was opened, while its descriptor was closed for other files (more are in use than half of the limit,"
    " ulimit -n): open the checkpoint again"
)
Proof = Callable[[int, os.stat_result], bool]


class Descriptor:
    """A descriptor closed after its last user, so that its number is not reused during a read."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # `close` is bound above: when Python ends, the names of this module may be None already.
        close(self.number)


class PooledFile:
    """A file that is open for reading, until the pool needs its descriptor for another one.

    It is closed when the last reference to it is gone.

    Attributes:
        path: where it was opened, and is opened again.
        status: its status when it was opened first.
    """

    __slots__ = ("__weakref__", "_held", "_proof", "_was_used", "path", "status")

    def __init__(self, path: str, held: Descriptor, status: os.stat_result, proof: Proof | None = None) -> None:
        """Add an open file to the pool.

        Args:
            path: where it was opened.
            held: its descriptor, from `open_descriptor`.
            status: of the descriptor.
            proof: called with a descriptor and a status if the path leads to a file with the device and the inode of
                this one, but with another size or time: whether it is this one. None: it is not.
        """
        self.path = path
        self.status = status
        self._proof = proof
        self._was_used = True
        self._held: Descriptor | None = held
        _pool.admit(self)

    @property
    def is_open(self) -> bool:
        """Whether it has a descriptor now."""
        return self._held is not None

    def descriptor(self) -> Descriptor:
        """Its descriptor, which the pool does not close as long as the caller has a reference to it.

        Raises:
            MissingFile: the pool closed it, and it was removed since.
            ChangedFile: the same, and its path leads to another file now.
            TooManyOpenFiles: the pool closed it, and the process can open no file.
            UnreadableFile: the same for another reason.
        """
        self._was_used = True
        return self._held or self._opened_again()

    def size(self) -> int:
        """The size of the file now. Raises: as `descriptor`."""
        self._was_used = True
        held = self._held or self._opened_again()  # a reference, so that it stays open
        return os.lseek(held.number, 0, os.SEEK_END)  # in a fifth of the time of `fstat`; no reader has a cursor

    def pread(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes from an offset on; fewer at the end of the file.

        Raises:
            OSError: the disk fails.
            MissingFile, …: as `descriptor`.
        """
        self._was_used = True
        held = self._held or self._opened_again()
        return os.pread(held.number, length, offset)

    def preadv(self, buffers: Sequence[memoryview], offset: int) -> int:
        """Fill buffers from an offset on, one after the other: the number of bytes. Raises: as `pread`."""
        self._was_used = True
        held = self._held or self._opened_again()
        return os.preadv(held.number, buffers, offset)

    def is_at(self, path: str) -> bool:
        """Whether a path leads to this very file."""
        try:
            return os.path.samestat(self.status, os.stat(path))
        except OSError:
            return False

    def release(self) -> None:
        """Close the descriptor, after its last reader. The next use opens the file again."""
        self._held = None

    def was_used(self) -> bool:
        """Whether it was used since the last call."""
        found, self._was_used = self._was_used, False
        return found

    def _opened_again(self) -> Descriptor:
        try:
            held = Descriptor(open_descriptor(self.path))
            if not self._is_same(held.number, os.fstat(held.number)):
                raise ChangedFile(f"it was replaced or changed {_MEANWHILE}", file=self.path)
        except FileNotFoundError as error:
            raise MissingFile(f"{self.path} was removed {_MEANWHILE}") from error
        except OSError as error:
            raise translated(error, self.path, READ) from error
        self._held = held
        _pool.admit(self)
        return held

    def _is_same(self, descriptor: int, status: os.stat_result) -> bool:
        known = self.status
        if not os.path.samestat(status, known):
            return False
        if (status.st_size, status.st_mtime_ns) == (known.st_size, known.st_mtime_ns):
            return True
        return self._proof is not None and self._proof(descriptor, status)


class DescriptorPool:
    """The files that may have a descriptor, and the clock that takes it from them."""

    def __init__(self, limit: Callable[[], int]) -> None:
        """Make an empty pool; `limit` gives the number of files that may be open now."""
        self._limit = limit
        # Those that were closed or are gone are dropped when the clock comes to them, so closing costs nothing.
        self._files: OrderedDict[int, weakref.ref[PooledFile]] = OrderedDict()
        self.new_lock()

    def admit(self, file: PooledFile) -> None:
        """Add a file that has just been opened; close another one if there are too many."""
        with self._turn:
            self._files.pop(id(file), None)
            self._files[id(file)] = weakref.ref(file)
            self._take(len(self._files) - self._limit())

    def close_all(self) -> None:
        """Close every file that is not being read now."""
        with self._turn:
            while self._files:
                file = self._files.popitem(last=False)[1]()
                if file is not None:
                    file.release()

    def new_lock(self) -> None:
        """A free lock for a forked child: a thread that the fork left behind may hold the parent's."""
        self._turn = threading.RLock()  # a signal handler or a finalizer may open a file while this thread holds it

    def _take(self, count: int) -> None:
        """Drop files from the pool until there are `count` fewer."""
        for _ in range(2 * len(self._files)):  # in two rounds every flag is down, unless other threads raise it again
            if count <= 0:
                return
            number, reference = self._files.popitem(last=False)
            file = reference()
            if file is not None and file.is_open and file.was_used():
                self._files[number] = reference
                continue
            if file is not None:
                file.release()
            count -= 1


def open_descriptor(path: str, _flags: int = 0) -> int:
    """Open a file for reading; if the process may open no more files, after closing those of the pool.

    It can be the `opener` of `open`, whose flags it does not need.

    Raises:
        TooManyOpenFiles: the limit is used up by others.
        OSError: the file cannot be opened.
    """
    try:
        return os.open(path, _FLAGS)
    except OSError as error:
        if error.errno not in LIMITS:
            raise
    _pool.close_all()
    try:
        return os.open(path, _FLAGS)
    except OSError as error:
        if error.errno in LIMITS:
            raise translated(error, path, READ) from error
        raise


def share_of_limit() -> int:
    """The number of files that the pool may have open: half of the limit of the process."""
    if resource is None:
        return sys.maxsize
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(_FEWEST, soft // _SHARE)


def _new_lock() -> None:
    _pool.new_lock()


_pool = DescriptorPool(share_of_limit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)
