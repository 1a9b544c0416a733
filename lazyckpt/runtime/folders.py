"""Folders that are held open while files are written in them, and the links that lead to these.

Strategy: other users may be able to write in a folder, and to rename what is in it. So a folder is opened once, and
each name in it is then used relative to its descriptor: a folder that is swapped for a link meanwhile changes nothing.
On the way to a folder each link is opened before it is read, and followed only if its owner could change the result
anyway: it belongs to the current user, to root, or to the owner of the folder that it is in. Linux has the same rule
for folders with the sticky bit (`fs.protected_symlinks`). Systems without `O_PATH` use paths.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final, NamedTuple

from lazyckpt.errors import UnwritableFile

_DESCRIPTORS: Final = "/proc/self/fd"  # Linux: opening a name in it opens the file of that descriptor itself
_MOST_LINKS: Final = 40  # as in Linux
_CLOEXEC: Final = getattr(os, "O_CLOEXEC", 0)
_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_PATH: Final = getattr(os, "O_PATH", 0)


class Folder:
    """A folder that is held open. Its methods take names of files in it."""

    def __init__(self, path: str) -> None:
        """Open a folder.

        Raises:
            OSError: it does not exist, or may not be entered.
            UnwritableFile: the path leads through a link of another user.
        """
        self.path = os.path.join(os.getcwd(), path)  # not `abspath`: ".." after a link leads elsewhere
        self._descriptor: int | None = None
        if _PATH:
            with _Walk() as walk:
                walk.through(self.path)
                self._descriptor = os.open(".", _PATH | os.O_DIRECTORY | _CLOEXEC, dir_fd=walk.descriptor)

    def create(self, name: str) -> Folder:
        """Create a folder in this one that only the user may enter, and open it.

        Raises:
            OSError: it cannot be created.
            UnwritableFile: another process has replaced it.
        """
        os.mkdir(self._at(name), 0o700, dir_fd=self._descriptor)
        made = Folder.__new__(Folder)
        made.path = os.path.join(self.path, name)
        made._descriptor = None
        if self._descriptor is not None:
            made._descriptor = self.open(name, _PATH | os.O_DIRECTORY)
            status = os.fstat(made._descriptor)
            if status.st_uid != os.geteuid() or status.st_mode & 0o077 or os.listdir(made.held):
                made.close()
                raise UnwritableFile(
                    errno.EBUSY, f"{self.path} cannot be written: another process replaced the temporary folder {name}"
                )
        return made

    @property
    def held(self) -> str:
        """A path to the files in it; on Linux that of the descriptor, whatever has the name of the folder meanwhile."""
        return self.path if self._descriptor is None else held_path(self._descriptor, self.path)

    def close(self) -> None:
        """Release the descriptor."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """Open a file without following a link."""
        return os.open(self._at(name), flags | _CLOEXEC | _NO_FOLLOW, mode, dir_fd=self._descriptor)

    def status(self, name: str) -> os.stat_result:
        """The status of a file, or of a link itself."""
        return os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=False)

    def leads_to(self, name: str, status: os.stat_result) -> bool:
        """Whether a name is that of a file with this status."""
        try:
            return os.path.samestat(status, self.status(name))
        except OSError:
            return False

    def unlink(self, name: str) -> None:
        """Remove a file."""
        os.unlink(self._at(name), dir_fd=self._descriptor)

    def remove(self, name: str, folder: Folder) -> None:
        """Remove a folder in this one with all that is in it; if its name leads elsewhere by now, only its content."""
        if folder._descriptor is None:
            import shutil  # here, because it imports every compression of the standard library

            shutil.rmtree(folder.path)
            return
        for _, folders, files, descriptor in os.fwalk(".", topdown=False, dir_fd=folder._descriptor):
            for file in files:
                os.unlink(file, dir_fd=descriptor)
            for inner in folders:
                os.rmdir(inner, dir_fd=descriptor)
        os.rmdir(name, dir_fd=self._descriptor)

    def replace(self, name: str, target: str, source: Folder | None = None) -> None:
        """Rename a file, of this folder or of another one, to a name in this folder."""
        source = source or self
        held = {"src_dir_fd": source._descriptor, "dst_dir_fd": self._descriptor}
        os.replace(source._at(name), self._at(target), **held)

    def sync(self) -> None:
        """Sync the names in the folder to the disk.

        Raises:
            OSError: the disk fails, or the folder may not be read.
        """
        descriptor = os.open(self._at("."), os.O_RDONLY | _CLOEXEC, dir_fd=self._descriptor)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _at(self, name: str) -> str:
        return name if self._descriptor is not None else os.path.join(self.path, name)


def held_path(descriptor: int, path: str) -> str:
    """A path to open files by: that of a descriptor, which leads to the file itself, or a given one without `/proc`."""
    held = f"{_DESCRIPTORS}/{descriptor}"
    return held if os.path.exists(held) else path


def resolved_output(path: str) -> str:
    """The path of an output, with links resolved; as `os.path.realpath`, but it follows no link of other users.

    Raises:
        UnwritableFile: the path leads through a link of another user, or its links lead in a circle.

    Cost: two system calls for each folder of the path.
    """
    if not _PATH:
        return os.path.realpath(path)
    with _Walk() as walk:
        return walk.through(os.path.join(os.getcwd(), path), may_end=True)


class _Link(NamedTuple):
    """A symbolic link, held open."""

    descriptor: int
    status: os.stat_result


class _Walk:
    """A walk from the root folder to a path, without a look at any name twice."""

    def __init__(self) -> None:
        self.descriptor = -1
        self._to_root()

    def __enter__(self) -> _Walk:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def through(self, path: str, *, may_end: bool = False) -> str:
        """Walk through a path.

        Args:
            path: an absolute path.
            may_end: whether the walk may end early, where a part does not exist or cannot be opened.

        Returns:
            The path without links.
        """
        done: list[str] = []
        left, links = _parts(path), 0
        while left:
            part = left.pop()
            try:
                found = os.open(part, _PATH | _NO_FOLLOW | _CLOEXEC, dir_fd=self.descriptor)
            except OSError:
                if not may_end:
                    raise
                done.append(part)
                break
            status = os.fstat(found)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                target = self._target(_Link(found, status), path, os.path.join(os.sep, *done, part), links)
                if target.startswith(os.sep):
                    done = []
                    self._to_root()
                left += _parts(target)
                continue
            self._to(found)
            done = done[:-1] if part == ".." else [*done, part]
        return os.path.normpath(os.path.join(os.sep, *done, *reversed(left)))

    def _target(self, link: _Link, path: str, name: str, links: int) -> str:
        """The target of a link, which is closed."""
        try:
            if link.status.st_uid not in (os.geteuid(), 0, os.fstat(self.descriptor).st_uid):
                raise UnwritableFile(
                    errno.EACCES,
                    f"{path} cannot be written: {name} is a link of another user (uid {link.status.st_uid}), which is"
                    " not followed; give the path that it leads to",
                )
            if links > _MOST_LINKS:
                raise UnwritableFile(errno.ELOOP, f"{path} cannot be written: its links lead in a circle")
            return os.readlink("", dir_fd=link.descriptor)
        finally:
            os.close(link.descriptor)

    def _to_root(self) -> None:
        self._to(os.open(os.sep, _PATH | os.O_DIRECTORY | _CLOEXEC))

    def _to(self, descriptor: int) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = descriptor


def _parts(path: str) -> list[str]:
    """The parts of a path, last first, so that the next one is popped from the end."""
    return [part for part in reversed(path.split(os.sep)) if part not in ("", ".")]
