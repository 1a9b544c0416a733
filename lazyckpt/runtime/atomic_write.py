"""Atomic file writes: a private temporary file, then a rename.

The temporary file stands in the target's folder, because a rename is atomic within one file system only. The temporary
names of a target are a fixed few (`.<name>.tmp`, `.<name>.1.tmp`, …), and a writer holds a lock on the one it uses. It
takes the first name that is not locked, so a file left by a killed writer is reused by the next one; each writer also
removes the leftovers that it finds. Concurrent writers use different names: every one of them produces a whole file,
and the last rename wins.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Final

from lazyckpt.errors import FolderInTheWay, MissingFolder, UnwritableFile
from lazyckpt.runtime.os_errors import WRITE, os_errors

try:
    import fcntl
except ImportError:  # Windows: every writer makes up a name that was never used
    fcntl = None  # type: ignore[assignment]

_NAMES: Final = 8  # concurrent writers of one target that get a reusable name
_HELD: Final = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # `flock` fails so when another process holds the lock


class _NoLocks(OSError):
    """The file system does not support locks (Lustre as usually mounted, some FUSE ones)."""


class TemporaryFile:
    """A private file that replaces its target when it is committed.

    Attributes:
        target: the path that it will have.
        path: the path that it has until then.
    """

    def __init__(self, target: str, path: str) -> None:
        self.target = target
        self.path = path

    def commit(self, mode: int, *, durable: bool = False) -> None:
        """Rename the file to its target, replacing an old file.

        Args:
            mode: its permission bits.
            durable: sync the file before the rename and the folder after it, so that both survive a power failure.
        """
        if durable:
            _sync(self.path)
        os.chmod(self.path, mode)
        os.replace(self.path, self.target)
        if durable:
            # Syncing a folder needs permission to read it. Without that the rename has happened all the same.
            with contextlib.suppress(OSError):
                _sync(os.path.dirname(self.target) or ".")


@contextlib.contextmanager
def temporary(target: str) -> Iterator[TemporaryFile]:
    """An empty temporary file for a target, removed after the block unless committed.

    Raises:
        OSError: the folder cannot be written.
    """
    path, descriptor = _private(target)
    try:
        yield TemporaryFile(target, path)
    finally:
        # After a commit the name may belong to the next writer: only the file that was opened here is removed.
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                os.unlink(path)
        os.close(descriptor)
        _sweep(target)


def atomic_write(path: str, fill: Callable[[str], object], *, mode: int | None = None) -> None:
    """Write a file in one atomic step: fill a temporary file, then rename it to `path`.

    The previous file stays until the rename, and for good if anything fails.

    Args:
        path: the target.
        fill: writes the content; called with the path of the temporary file.
        mode: permission bits; None for those of the previous file, or 0o644 for a new one.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
        Exception: whatever `fill` raises; the temporary file is removed.
    """
    with temporary(path) as made:
        fill(made.path)
        made.commit(_mode_at(path) if mode is None else mode)


def _mode_at(path: str) -> int:
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        return 0o644


@contextlib.contextmanager
def file_errors(path: str) -> Iterator[None]:
    """Check the target of a write, and raise the system's errors as the package's own.

    Raises:
        FolderInTheWay: the path is a folder.
        MissingFolder: its folder does not exist.
        UnwritableFile: it is a device or a pipe, or the system refused to write it. The previous file stays.
    """
    folder = os.path.dirname(path)
    with os_errors(path, WRITE):
        if os.path.isdir(path):
            raise FolderInTheWay(errno.EISDIR, f"{path} is a folder; give the name of a file")
        if not os.path.isdir(folder):
            raise MissingFolder(errno.ENOENT, f"{path} cannot be written: there is no folder {folder}; create it first")
        if os.path.exists(path) and not os.path.isfile(path):
            raise UnwritableFile(errno.EINVAL, f"{path} is a device or a pipe; give the name of a file")
        yield


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
    """Open and lock a temporary file: a descriptor, or -1 if another writer holds it.

    Raises:
        _NoLocks: the file system does not support locks; an empty file is not left behind.
    """
    descriptor = os.open(path, os.O_RDWR | create | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(descriptor)
        # The writer that held the lock may have renamed the file to its target between our open and our lock. Then the
        # name leads elsewhere, or nowhere, and the descriptor is the finished file: it must not be written to.
        if os.path.samestat(status, os.lstat(path)):
            if status.st_nlink == 1 and stat.S_ISREG(status.st_mode):
                return descriptor
            os.unlink(path)  # a pipe, or a hard link: writing would change a file that has another name
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
    """Remove the files that killed writers left."""
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
