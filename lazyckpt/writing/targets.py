"""Checks of output paths: an output never destroys the input that it is made of.

Rules: a file is an input if values are read from it (compared by device and inode, so that links of both kinds count),
or if its path is one under which such a file was opened. Parts of a set, their listing and their strategy are inputs
too. An input is replaced if all its values are written, or on request; several outputs never replace an input, because
several renames are not atomic. Any other file is replaced unless the caller forbids it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import NamedTuple

from lazyckpt.errors import FileInTheWay
from lazyckpt.index.locations import beside
from lazyckpt.sources.base import LocalFile


class Inputs(NamedTuple):
    """The files that values come from.

    Attributes:
        files: each of them.
        complete: whether all their values are written, unchanged.
    """

    files: tuple[LocalFile, ...] = ()
    complete: bool = False

    def hold(self, path: str) -> bool:
        """Whether a path leads to one of the files. Cost: a stat of it, and of each file."""
        try:
            status = os.stat(path)
        except OSError:
            return False
        found = (status.st_dev, status.st_ino)
        return any(found in (file.identity, _identity_at(file.path)) for file in self.files)


class Permission(NamedTuple):
    """Which existing files the caller allows to be replaced.

    Attributes:
        overwrite: whether files that are not inputs may be replaced.
        in_place: whether an input may be replaced by a part of its values.
    """

    overwrite: bool = True
    in_place: bool = False


def check_targets(paths: Iterable[str], inputs: Inputs, permission: Permission) -> None:
    """Refuse to replace files that must be kept.

    Args:
        paths: the files to be written, all of them.
        inputs: the files that the values come from.
        permission: what may be replaced.

    Raises:
        FileInTheWay: one of them must not be replaced.

    Cost: some system calls for each path and each input. Reads nothing.
    """
    targets = list(paths)
    for path in targets:
        if inputs.hold(path):
            _check_own(path, inputs, permission, alone=len(targets) == 1)
        elif not permission.overwrite and os.path.isfile(path):
            raise _refusal(f"{path} exists already: give another name, or --force (overwrite=True) to replace it")
        sidecar = beside(os.path.realpath(path))
        if inputs.hold(sidecar):
            raise _refusal(f"{sidecar} is the input, and the index of {path} has the same name: give another name")


def _check_own(path: str, inputs: Inputs, permission: Permission, *, alone: bool) -> None:
    if not alone:
        raise _refusal(f"{path} is the input: several files cannot replace it in one step; give another name")
    if not inputs.complete and not permission.in_place:
        raise _refusal(
            f"{path} is the input, and some of its values would be lost: give another name, or --in-place"
            " (in_place=True) to lose these"
        )
    if not (permission.overwrite or permission.in_place):
        raise _refusal(f"{path} is the input: give another name, or --force (overwrite=True) to replace it")


def check_report(path: str, inputs: tuple[LocalFile, ...], *, overwrite: bool = True) -> None:
    """Refuse to write a report over the checkpoint itself. Raises, Cost: as `check_targets`."""
    if Inputs(inputs).hold(path):
        raise _refusal(f"{path} is the input, and would be lost: give another name")
    if not overwrite and os.path.exists(path) and not _is_device(path):
        raise _refusal(f"{path} exists already: give another name, or --force to replace it")


def _is_device(path: str) -> bool:
    return not (os.path.isfile(path) or os.path.isdir(path))


def _identity_at(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _refusal(why: str) -> FileInTheWay:
    return FileInTheWay(errno.EEXIST, f"{why}; nothing was written")
