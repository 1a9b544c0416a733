"""Atomic file writes: a private temporary file, then a rename.

The temporary file is in the folder of its target, because a rename is atomic within one file system only. The temporary
names of a target are a fixed few (`.<name>.tmp`, `.<name>.1.tmp`, …). A writer takes the first name that is free, locks
the file that it creates there, and removes the files that killed writers of the same user left: those whose lock is
free. Concurrent writers use different names: every one of them produces a whole file, and the last rename wins.

Other users may write in the folder, too. So a writer uses no file that it did not create itself. The folder is held
open (see `folders`), and the file is written, given its mode and synced through its descriptor: a name that leads to
another file by then is harmless. Right before the rename, the name is compared with the descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Final

from lazyckpt.errors import FolderInTheWay, MissingFolder, UnwritableFile
from lazyckpt.runtime.folders import Folder, held_path
from lazyckpt.runtime.os_errors import WRITE, os_errors

try:
    import fcntl
except ImportError:  # Windows: every writer makes up a name that was never used
    fcntl = None  # type: ignore[assignment]

_NAMES: Final = 8  # concurrent writers of one target that get a reusable name
_HELD: Final = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # `flock` fails so when another process holds the lock
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL
_DEFAULT_MODE: Final = 0o644
_OLD: Final = ".old"  # the name of a replaced folder until it is removed


class _NoLocks(OSError):
    """The file system does not support locks (Lustre as usually mounted, some FUSE ones)."""


class TemporaryFile:
    """A private file that replaces its target when it is committed.

    Attributes:
        target: the path that it will have.
        path: a path to open it by. On Linux it leads to the file of the descriptor, whatever has the name meanwhile.
        descriptor: open for reading and writing, and locked.
    """

    def __init__(self, target: str, folder: Folder, name: str, descriptor: int) -> None:
        self.target = target
        self.descriptor = descriptor
        self._folder = folder
        self._name = name
        self.path = held_path(descriptor, os.path.join(folder.path, name))

    def commit(self, mode: int, *, durable: bool = False) -> None:
        """Rename the file to its target, replacing an old file.

        Args:
            mode: its permission bits.
            durable: sync the file before the rename and the folder after it, so that both survive a power failure.

        Raises:
            UnwritableFile: another process has replaced the temporary file.
            OSError: the disk is full or fails.
        """
        os.chmod(self.descriptor if os.chmod in os.supports_fd else self.path, mode)
        if durable:
            os.fsync(self.descriptor)
        if not self._folder.leads_to(self._name, os.fstat(self.descriptor)):
            raise UnwritableFile(
                errno.EBUSY,
                f"{self.target} cannot be written: another process removed or replaced the temporary file {self._name};"
                " any existing file is kept; choose a folder that only you can write",
            )
        self._folder.replace(self._name, os.path.basename(self.target))
        if durable:
            # Syncing a folder needs permission to read it. Without that the rename has happened all the same.
            with contextlib.suppress(OSError):
                self._folder.sync()


@contextlib.contextmanager
def temporary(target: str) -> Iterator[TemporaryFile]:
    """An empty temporary file for a target, removed after the block unless committed.

    Raises:
        OSError: the folder cannot be written.
        UnwritableFile: the path leads through a link of another user.
    """
    place, name = os.path.split(target)
    folder = Folder(place or ".")
    try:
        private, descriptor = _private(folder, name)
        try:
            yield TemporaryFile(target, folder, private, descriptor)
        finally:
            # After a commit the name may belong to the next writer: only the file that was made here is removed.
            with contextlib.suppress(OSError):
                if folder.leads_to(private, os.fstat(descriptor)):
                    folder.unlink(private)
            os.close(descriptor)
    finally:
        folder.close()


@contextlib.contextmanager
def temporary_folder(target: str) -> Iterator[str]:
    """A private folder, of which the content with the name of the target takes its place after the block.

    A folder at the target is removed then. If the block raises, the target stays.

    Raises:
        OSError: the folder cannot be written.
        UnwritableFile: the path leads through a link of another user, or another process replaced the private folder.
    """
    place, name = os.path.split(target)
    folder = Folder(place or ".")
    try:
        private = f".{name}.{os.urandom(8).hex()}.tmp"
        made = folder.create(private)
        try:
            yield made.held
            with contextlib.suppress(FileNotFoundError):
                made.replace(name, _OLD, folder)
            folder.replace(name, name, made)
        finally:
            with contextlib.suppress(OSError):
                folder.remove(private, made)
            made.close()
    finally:
        folder.close()


def atomic_write(path: str, fill: Callable[[str], object], *, mode: int | None = None) -> None:
    """Write a file in one atomic step: fill a temporary file, then rename it to `path`.

    The previous file stays until the rename, and for good if anything fails.

    Args:
        path: the target.
        fill: writes the content; called with the path of the temporary file.
        mode: permission bits; None for those of the user's previous file, or 0o644 for a new one.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
        Exception: whatever `fill` raises; the temporary file is removed.
    """
    with temporary(path) as made:
        fill(made.path)
        made.commit(_mode_at(path, os.fstat(made.descriptor).st_uid) if mode is None else mode)


def remove(path: str) -> None:
    """Remove a file that was written here.

    Raises:
        OSError: it does not exist, or the folder cannot be written.
    """
    place, name = os.path.split(path)
    folder = Folder(place or ".")
    try:
        folder.unlink(name)
    finally:
        folder.close()


def _mode_at(path: str, owner: int) -> int:
    """The mode of a previous file of this owner. The bits of other users' files are no choice of ours."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return _DEFAULT_MODE
    return status.st_mode & 0o777 if status.st_uid == owner else _DEFAULT_MODE


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


def make_private_folders(path: str) -> None:
    """Create a folder that only its user may enter, with the missing folders above it; existing ones stay as they are.

    Raises:
        OSError: it cannot be created, or something else has its name.
    """
    if os.path.isdir(path):
        return
    parent = os.path.dirname(os.path.abspath(path))
    make_private_folders(parent)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:  # by another process, or it is not a folder
        if not os.path.isdir(path):
            raise
        return
    os.chmod(path, 0o700)  # whatever the umask took


def _private(folder: Folder, name: str) -> tuple[str, int]:
    """Create and lock a temporary file; return its name and its descriptor."""
    private, descriptor = _first_free(folder, name)
    if descriptor < 0:
        private = f".{name}.{os.urandom(8).hex()}.tmp"
        descriptor = folder.open(private, _CREATE)
    if fcntl is not None:
        others = [other for other in _names(name) if other != private]
        _sweep(folder, others, os.fstat(descriptor).st_uid)
    return private, descriptor


def _first_free(folder: Folder, name: str) -> tuple[str, int]:
    """Create a file under the first name that is free; its descriptor is -1 if none is, or without locks."""
    if fcntl is not None:
        with contextlib.suppress(_NoLocks):
            for private in _names(name):
                descriptor = _created(folder, private)
                if descriptor >= 0:
                    return private, descriptor
    return "", -1


def _names(name: str) -> list[str]:
    return [f".{name}{number}.tmp" for number in ("", *(f".{n}" for n in range(1, _NAMES)))]


def _created(folder: Folder, private: str) -> int:
    """Create a file and lock it: a descriptor, or -1 if the name is taken.

    Raises:
        _NoLocks: the file system does not support locks; no file is left behind.
    """
    try:
        descriptor = folder.open(private, _CREATE)
    except FileExistsError:
        return -1
    try:
        os.fchmod(descriptor, 0o600)  # whatever the umask took: the next writer must be able to open it
        # A writer that sweeps may have locked the file between its creation and our lock, and then removes it.
        if _lock(descriptor) and folder.leads_to(private, os.fstat(descriptor)):
            return descriptor
    except OSError:
        with contextlib.suppress(OSError):
            folder.unlink(private)
        os.close(descriptor)
        raise
    os.close(descriptor)
    return -1


def _lock(descriptor: int) -> bool:
    """Lock a file; return whether no other process holds its lock.

    Raises:
        _NoLocks: the file system does not support locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise _NoLocks(*error.args) from error
    return True


def _sweep(folder: Folder, names: list[str], owner: int) -> None:
    """Remove what killed writers of this owner left. What belongs to other users stays."""
    if fcntl is None:
        return
    for private in names:
        with contextlib.suppress(OSError):
            status = folder.status(private)
            if status.st_uid != owner or stat.S_ISDIR(status.st_mode):
                continue
            if not stat.S_ISREG(status.st_mode):  # no writer made it: there is no lock to respect
                folder.unlink(private)
                continue
            # Its mode is final if its writer was killed right before the rename. NFS locks only what is writable.
            access = os.O_RDWR if status.st_mode & stat.S_IWUSR else os.O_RDONLY
            descriptor = folder.open(private, access | getattr(os, "O_NONBLOCK", 0))
            try:
                # The writer that held the lock may have renamed the file to its target between our open and our lock:
                # then the name leads elsewhere, or nowhere.
                if _lock(descriptor) and folder.leads_to(private, os.fstat(descriptor)):
                    folder.unlink(private)
            finally:
                os.close(descriptor)
