"""Records the files that a reader opens or changes, from Python's audit events, while a block runs.

Files opened by native code are not recorded: LMDB writes new sidecars that way.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_CHANGES = {  # an event: which of its arguments are paths
    "os.chmod": (0,),
    "os.chown": (0,),
    "os.link": (1,),
    "os.mkdir": (0,),
    "os.mkfifo": (0,),
    "os.mknod": (0,),
    "os.remove": (0,),
    "os.rename": (0, 1),
    "os.rmdir": (0,),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.utime": (0,),
}
_NOTHING_READ = getattr(os, "O_PATH", 0)  # a step of the walk to a folder
# A bare name that must not be a link is opened in a folder by its descriptor, which the event does not have.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_DESCRIPTORS = "/proc/"  # a name in it is that of an open file, and leads to it
_OF_TWO = ("os.link", "os.rename")  # events of two paths, with two folders behind them
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Heard(NamedTuple):
    """The paths that were opened, and those of them that were changed, links resolved."""

    opened: set[str]
    changed: set[str]


@contextlib.contextmanager
def listening() -> Iterator[Heard]:
    """Record what any thread of this process opens and changes. Imports write no bytecode meanwhile."""
    _listen()
    heard, leaves_none = Heard(set(), set()), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    _ears.append(heard)
    try:
        yield heard
    finally:
        _ears.remove(heard)
        sys.dont_write_bytecode = leaves_none


def outside(paths: set[str], *folders: Path | str) -> list[str]:
    """The paths that lie in none of these folders."""
    homes = [os.path.realpath(folder) + os.sep for folder in folders]
    return sorted(path for path in paths if not f"{path}{os.sep}".startswith(tuple(homes)))


_ears: list[Heard] = []


@functools.cache
def _listen() -> None:
    """An audit hook stays as long as the process does."""
    sys.addaudithook(_hear)


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if not _ears:
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and (flags & _NOTHING_READ or (flags & _NO_LINK and os.sep not in os.fsdecode(path))):
            return
        _tell(path, changed=isinstance(flags, int) and bool(flags & _WRITING))
    elif event in _CHANGES:
        for place in _CHANGES[event]:
            _tell(_in_folder(event, arguments, place), changed=True)


def _in_folder(event: str, arguments: tuple[object, ...], place: int) -> object:
    """A path of an event; where it is relative to an open folder, in that folder."""
    path = arguments[place]
    folder = None if event == "os.truncate" else arguments[2 + place] if event in _OF_TWO else arguments[-1]
    if not isinstance(folder, int) or folder < 0 or not isinstance(path, (str, bytes)):
        return path
    return os.path.join(os.path.realpath(f"/proc/self/fd/{folder}"), os.fsdecode(path))


def _tell(path: object, *, changed: bool) -> None:
    if not isinstance(path, (str, bytes, os.PathLike)):
        return  # the path of a descriptor was recorded when it was opened
    name = os.fsdecode(path)
    with contextlib.suppress(ValueError, OSError):  # names that no file can have
        # A link is replaced or removed itself: only the folder that it stands in is resolved.
        real = (
            os.path.join(os.path.realpath(os.path.dirname(name)), os.path.basename(name))
            if changed and not name.startswith(_DESCRIPTORS)
            else (os.path.realpath(name))
        )
        for heard in _ears:
            heard.opened.add(real)
            if changed:
                heard.changed.add(real)
