"""A file comes to its place whole or not at all.

It is written under a private name in the folder it goes to, and renamed. The private names of a file are always the
same few (`.<name>.tmp`, `.<name>.1.tmp`, …) and locked while they are written: a writer takes the first that nobody
holds, so what a killed one left is taken over by the next; and each takes away what it finds of others that died.
Writers at the same time have names of their own; all end with a whole file, and the last one stays.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Final

from lazyckpt.errors import FolderInTheWay, LazyCkptError, MissingFolder, UnwritableFile

try:
    import fcntl
except ImportError:  # Windows: every writer takes a name that nobody ever had
    fcntl = None  # type: ignore[assignment]

_NAMES: Final = 8  # writers of one file at the same time that have lasting private names
_HELD: Final = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # what a lock says that another holds


class _NoLocks(OSError):
    """The file system has no locks (Lustre as it is often mounted, some that lie in user processes)."""


class Draft:
    """A private file on its way to its place.

    Attributes:
        path: where it is going.
        private: where it is until then.
    """

    def __init__(self, path: str, private: str) -> None:
        self.path = path
        self.private = private

    def place(self, mode: int, *, durable: bool = False) -> None:
        """Rename it into place, over what was there.

        Args:
            mode: its permission bits.
            durable: bring it, and its name, to the disk first: what power failure must not take.
        """
        if durable:
            _sync(self.private)
        os.chmod(self.private, mode)
        os.replace(self.private, self.path)
        if durable:
            with contextlib.suppress(OSError):  # a folder that may not be read; the file is in its place all the same
                _sync(os.path.dirname(self.path) or ".")


@contextlib.contextmanager
def draft(path: str) -> Iterator[Draft]:
    """A private, empty file for `path`. What was not put in its place when the block ends is removed.

    Raises:
        OSError: the folder cannot be written.
    """
    private, descriptor = _private(path)
    try:
        yield Draft(path, private)
    finally:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), os.lstat(private)):
                os.unlink(private)
        os.close(descriptor)
        _sweep(path)


def put(path: str, fill: Callable[[str], object], *, mode: int | None = None) -> None:
    """Make the file at `path` by letting `fill` write a private file, which is then renamed into place.

    Whatever was there before stays until the rename, and for good if anything fails.

    Args:
        path: where.
        fill: is given the name of the private file.
        mode: permission bits; None for those of what is there, or for a file that all may read.

    Raises:
        OSError: the folder cannot be written, or is full.
        Exception: what `fill` raises; nothing is left behind.
    """
    with draft(path) as made:
        fill(made.private)
        made.place(_mode_at(path) if mode is None else mode)


def _mode_at(path: str) -> int:
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        return 0o644


@contextlib.contextmanager
def told_of(path: str) -> Iterator[None]:
    """Faults of the system as errors that say which file they are about."""
    folder = os.path.dirname(path)
    try:
        if os.path.isdir(path):
            raise FolderInTheWay(errno.EISDIR, f"{path} is a folder; the name of a file is needed")
        if not os.path.isdir(folder):
            raise MissingFolder(errno.ENOENT, f"{path} cannot be written: there is no folder {folder}; create it first")
        if os.path.exists(path) and not os.path.isfile(path):
            raise UnwritableFile(errno.EINVAL, f"{path} is a device or a pipe; the name of a file is needed")
        yield
    except LazyCkptError:
        raise
    except OSError as error:
        why = error.strerror or str(error)
        raise UnwritableFile(error.errno, f"{path} cannot be written: {why}; what was there before is kept") from error


def _private(path: str) -> tuple[str, int]:
    folder, name = os.path.split(path)
    if fcntl is not None:
        with contextlib.suppress(_NoLocks):
            for private in _names(path):
                descriptor = _lock(private, os.O_CREAT)
                if descriptor >= 0:
                    _emptied(private, descriptor)
                    return private, descriptor
    private = os.path.join(folder, f".{name}.{os.urandom(8).hex()}.tmp")
    return private, os.open(private, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)


def _emptied(private: str, descriptor: int) -> None:
    try:
        os.ftruncate(descriptor, 0)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(private)
        os.close(descriptor)
        raise


def _names(path: str) -> list[str]:
    folder, name = os.path.split(path)
    return [os.path.join(folder, f".{name}{number}.tmp") for number in ("", *(f".{n}" for n in range(1, _NAMES)))]


def _lock(path: str, create: int) -> int:
    """The file at `path`, to which nobody else writes until it is closed, or -1 when another is at it.

    Raises:
        _NoLocks: there are no locks here; no empty file is left.
    """
    descriptor = os.open(path, os.O_RDWR | create | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(descriptor)
        # The other writer may have renamed the file away between the open and the lock.
        if os.path.samestat(status, os.lstat(path)):
            if status.st_nlink == 1 and stat.S_ISREG(status.st_mode):
                return descriptor
            os.unlink(path)  # a pipe, or a file that has another name besides: not to be written to
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in _HELD:
            if create and not os.fstat(descriptor).st_size:
                os.unlink(path)
            os.close(descriptor)
            raise _NoLocks(*error.args) from error
    os.close(descriptor)
    return -1


def _sweep(path: str) -> None:
    """Remove what killed writers left."""
    if fcntl is None:
        return
    for private in _names(path):
        with contextlib.suppress(OSError):
            descriptor = _lock(private, 0)
            if descriptor >= 0:
                os.unlink(private)
                os.close(descriptor)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
