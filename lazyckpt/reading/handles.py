"""Pickled readers: another process opens the checkpoint again, from the handle of its file.

A checkpoint, or one of its values, is pickled as the handle of its file (`open_file.Handle`) and the fingerprint of the
file as it was. No byte of the file or of a key is pickled: only a reference to the key is pickled.

An unpickled reader opens nothing before it is used. In a process all readers with the same handle and the same
fingerprint share one open file, which is closed when the last of them is gone. Safe for many threads, and across fork.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, Protocol

from lazyckpt.errors import ChangedFile, NotPicklable
from lazyckpt.index.open_file import Handle, OpenFile
from lazyckpt.model.entry import Fingerprint

_NO_FILE: Final = "it was not opened from a file: open it from one, or send arrays (asnumpy)"
_KEY: Final = (
    "it was opened with a key, and a key is never pickled: open it with dec_key=lazyckpt.KeyReference(file=…) or"
    " KeyReference(variable=…), and each process finds the key there by itself"
)
_STRIPES: Final = 16  # handles that can be opened at the same time


class Reopenable(Protocol):
    """A reader of an open file."""

    file: OpenFile


_Kind = Callable[[OpenFile], Reopenable]  # the reader's class, which takes the open file


def reduced(reader: Reopenable) -> tuple[Any, ...]:
    """The pickle of a reader: see `object.__reduce__`.

    Raises:
        NotPicklable: its file cannot be opened again.
    """
    handle = reader.file.handle
    refusal = _NO_FILE if handle is None else _KEY if handle.key is None else ""
    if refusal:
        raise NotPicklable(f"this checkpoint cannot be pickled: {refusal}")
    return LazyReader, (type(reader), handle, _fingerprint(reader.file))


def _fingerprint(file: OpenFile) -> Fingerprint:
    """The fingerprint to compare on reopening: the version of an object, where its store has one."""
    return file.source.fingerprint or file.index.fingerprint


class LazyReader:
    """A reader that came out of a pickle; it opens its file on first use.

    So a process that only passes a pickle on (as the scheduler of a cluster does) needs no file.
    """

    is_lent = True

    def __init__(self, kind: _Kind, handle: Handle, fingerprint: Fingerprint) -> None:
        """Take what `reduced` gave."""
        self._how = kind, handle, fingerprint

    def __getattr__(self, name: str) -> Any:
        """Open the file, and be its reader from then on.

        Raises:
            ChangedFile: the file is another now.
            MissingFile, …: as when it was opened first.
        """
        if name.startswith("__") or name in ("_how", "_reader"):
            raise AttributeError(name)
        reader = self.__dict__.get("_reader")
        if reader is None:
            reader = self._reader = reopened(*self._how)
        return getattr(reader, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyReader, self._how

    def __deepcopy__(self, memo: dict[int, Any]) -> LazyReader:
        return self  # nothing in it changes


def reopened(kind: _Kind, handle: Handle, fingerprint: Fingerprint) -> Reopenable:
    """The reader of a file that is opened again, or that is open in this process already.

    Args:
        kind: the reader's class.
        handle: how the file is opened.
        fingerprint: of the file as it must be.

    Raises:
        ChangedFile: it is another now.
        MissingFile, …: as when it was opened first.

    Cost: opening it with its index; nothing if it is open here already.
    """
    with _locks[hash(handle) % _STRIPES]:
        found: Reopenable | None = _shared.get((handle, fingerprint))
        if found is None:
            found = _shared[handle, fingerprint] = kind(_opened(handle, fingerprint))
        return found


def _opened(handle: Handle, fingerprint: Fingerprint) -> OpenFile:
    key = None if handle.key is None else handle.key.read()
    file = handle.opener(*handle.arguments, key)
    if _fingerprint(file) != fingerprint:
        file.close()
        raise ChangedFile(
            "the file is not the one that it was when its handle was pickled: open it again, and send that",
            file=file.source.name,
        )
    return file


def _new_locks() -> None:
    """Free locks for a forked child: threads that the fork left behind may hold the parent's."""
    global _locks
    _locks = tuple(threading.Lock() for _ in range(_STRIPES))


_locks: tuple[threading.Lock, ...] = ()
_new_locks()
_shared: weakref.WeakValueDictionary[tuple[Handle, Fingerprint], Any] = weakref.WeakValueDictionary()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_locks)
