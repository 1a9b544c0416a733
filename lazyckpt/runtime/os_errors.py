"""The table that maps the system's errors to the package's own.

The table decides the class and the advice; the caller gives the path. Code that catches errors of another kind (those
of an fsspec file system, for example) finds a matching error number first, and then calls `translated`.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from lazyckpt.errors import (
    FolderInTheWay,
    LazyCkptError,
    MissingFile,
    MissingFolder,
    TooManyOpenFiles,
    UnreadableFile,
    UnwritableFile,
)


class Action(NamedTuple):
    """An operation on a file, for the messages of its errors.

    Attributes:
        verb: as in "cannot be …".
        errors: error number -> class, where there is a class for just this error.
        other: the class of every other error.
        advice: error number -> what to do about it.
        remark: the end of the message.
    """

    verb: str
    errors: Mapping[int, type[LazyCkptError]]
    other: type[LazyCkptError]
    advice: Mapping[int, str]
    remark: str = ""


LIMITS: Final = (errno.EMFILE, errno.ENFILE)  # of open files: of the process, and of the machine
READ: Final = Action(
    "read",
    MappingProxyType({errno.ENOENT: MissingFile, **dict.fromkeys(LIMITS, TooManyOpenFiles)}),
    UnreadableFile,
    MappingProxyType(
        {
            errno.EACCES: "check its permissions",
            errno.EPERM: "check its permissions",
            errno.EISDIR: "give a file that is in it",
            errno.ENOTDIR: "a part of its path is a file: check the name and the folder",
            errno.ELOOP: "its links lead in a circle: check the name and the folder",
            errno.ENAMETOOLONG: "check the name and the folder",
            errno.EMFILE: "close other files, or raise the limit (ulimit -n)",
            errno.ENFILE: "too many files are open on this machine: try again later",
            errno.ENOMEM: "free some memory, or raise the limit of maps (vm.max_map_count)",
            errno.EIO: "the disk or the network failed: try again, or restore the file from a copy",
            errno.ESTALE: "it was replaced on its network file system: open it again",
            errno.ETIMEDOUT: "its file system does not answer: try again later",
        }
    ),
)
WRITE: Final = Action(
    "written",
    MappingProxyType({errno.ENOENT: MissingFolder, errno.EISDIR: FolderInTheWay}),
    UnwritableFile,
    MappingProxyType(
        {
            errno.ENOENT: "create its folder first",
            errno.EISDIR: "give the name of a file",
            errno.EACCES: "check the permissions of its folder",
            errno.EPERM: "check the permissions of its folder",
            errno.ENOSPC: "free some space on the disk",
            errno.EDQUOT: "the quota is used up: free some space",
            errno.EROFS: "choose a folder that can be written",
            errno.ENOTDIR: "a part of its path is a file: choose another folder",
            errno.ENAMETOOLONG: "choose a shorter name",
            errno.EMFILE: "close other files, or raise the limit (ulimit -n)",
            errno.EIO: "the disk or the network failed: try again, or choose another disk",
            errno.ETIMEDOUT: "its file system does not answer: try again later",
        }
    ),
    "any existing file is kept",
)
# Errors without a number (other libraries raise such) are known by their type.
_NUMBERS: Final[tuple[tuple[type[OSError], int], ...]] = (
    (FileNotFoundError, errno.ENOENT),
    (PermissionError, errno.EACCES),
    (IsADirectoryError, errno.EISDIR),
    (NotADirectoryError, errno.ENOTDIR),
    (TimeoutError, errno.ETIMEDOUT),
)


@contextlib.contextmanager
def os_errors(path: str, action: Action, what: str = "") -> Iterator[None]:
    """Raise the system's errors as the package's own; see `translated`.

    Raises:
        LazyCkptError: of the class that the table has for the error, which is its `__cause__`.
    """
    try:
        yield
    except LazyCkptError:  # some of these are OSErrors, too
        raise
    except OSError as error:
        raise translated(error, path, action, what) from error


def translated(error: OSError, path: str, action: Action, what: str = "") -> LazyCkptError:
    """The package's own error for one of the system's.

    Args:
        error: the system's.
        path: the file, as messages show it.
        action: `READ` or `WRITE`.
        what: the kind of file, said before the path, such as `the key file`.
    """
    number = number_of(error)
    kind = action.errors.get(number, action.other)
    named = f"{what} {path}" if what else path
    if kind is MissingFile:
        return MissingFile(f"{named} does not exist, please check the name and the folder")
    parts = (error.strerror or str(error), action.advice.get(number), action.remark)
    message = f"{named} cannot be {action.verb}: " + "; ".join(filter(None, parts))
    return kind(number or errno.EIO, message) if issubclass(kind, OSError) else kind(message)


def number_of(error: OSError) -> int:
    """The error's number, or the one that its type implies; 0 if it has neither."""
    if error.errno is not None:
        return error.errno
    return next((number for kind, number in _NUMBERS if isinstance(error, kind)), 0)
