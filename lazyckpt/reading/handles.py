"""Handles: how a checkpoint was opened, so that another process can open it again.

What is pickled of a checkpoint, or of one of its values, is its handle (a function, and arguments that are plain
values), the mark of the file as it was, and never a byte of the file or of a key: a key travels as the place where it
is found. Whoever opened a checkpoint gives it its handle, so that nothing here needs to know how that is done.

What comes out of a pickle opens nothing before it is used. In a process all that came with the same handle and the same
mark shares one open file, which is closed when the last of it is gone. Safe for many threads, and across fork.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any, Final, NamedTuple, Protocol

from lazyckpt.errors import ChangedFile, NotPicklable
from lazyckpt.index import Index
from lazyckpt.model.entry import Fingerprint
from lazyckpt.sources import Source
from lazyckpt.sources.encryption.keys import NO_KEY, AnySecret, DeferredKey, KeyReference

_NO_FILE: Final = "it was not opened from a file: open it from one, or send arrays (asnumpy)"
_KEY: Final = (
    "it was opened with a key, and a key is never pickled: open it with dec_key=lazyckpt.KeyReference(file=…) or"
    " KeyReference(variable=…), and each process finds the key there by itself"
)
_STRIPES: Final = 16  # handles that can be opened at the same time


class Handle(NamedTuple):
    """How a checkpoint was opened.

    Attributes:
        opener: opens it again: called with `arguments` and the key, or None; gives what reads its values.
        arguments: plain values.
        key: where its key is.
        refusal: why it cannot be opened again, or an empty string.
    """

    opener: Callable[..., Reopenable]
    arguments: tuple[Hashable, ...] = ()
    key: KeyReference = NO_KEY
    refusal: str = ""


class Hold(NamedTuple):
    """What is open: a checkpoint's bytes and index, and how they were opened.

    Attributes:
        handle: how.
        source: the bytes.
        entries: the index of all of them.
    """

    handle: Handle
    source: Source
    entries: Index


class Reopenable(Protocol):
    """What reads values, and keeps a file open for that."""

    hold: Hold | None


def handle_of(opener: Callable[..., Reopenable], arguments: tuple[Hashable, ...], key: AnySecret) -> Handle:
    """The handle of what was opened with a key, or with none; of a key that was handed over, one that refuses."""
    if isinstance(key, DeferredKey):
        key = key.found
    if key is None:
        return Handle(opener, arguments)
    return Handle(opener, arguments, key.reference or NO_KEY, "" if key.reference is not None else _KEY)


def handle_of_nothing(opener: Callable[..., Reopenable]) -> Handle:
    """The handle of what is in no file."""
    return Handle(opener, refusal=_NO_FILE)


def hold_of(held: Reopenable) -> Hold:
    """What is open for something that reads values.

    Raises:
        NotPicklable: that is not known.
    """
    if held.hold is None:
        raise NotPicklable(f"this checkpoint cannot be pickled: {_NO_FILE}")
    return held.hold


def reduced(held: Reopenable) -> tuple[Any, ...]:
    """What is pickled of something that reads values: see `object.__reduce__`.

    Raises:
        NotPicklable: it cannot be opened again.
    """
    hold = hold_of(held)
    if hold.handle.refusal:
        raise NotPicklable(f"this checkpoint cannot be pickled: {hold.handle.refusal}")
    return LazyReader, (hold.handle, _mark(hold))


def _mark(hold: Hold) -> Fingerprint:
    """What must be the same when it is opened again: what the source says of its version, else what the index does."""
    return hold.source.fingerprint or hold.entries.fingerprint


class LazyReader:
    """What reads values, of a file that is opened when the first of them is asked for.

    So that who merely passes a pickle on (as the scheduler of a cluster does) needs no file.
    """

    is_lent = True

    def __init__(self, handle: Handle, mark: Fingerprint) -> None:
        """Take what `reduced` gave."""
        self._how = handle, mark

    def __getattr__(self, name: str) -> Any:
        """Whatever it is asked for is that of the file, which is opened here.

        Raises:
            ChangedFile: the file is another now.
            MissingFile, …: as when it was opened first.
        """
        if name.startswith("__") or name in ("_how", "_held"):
            raise AttributeError(name)
        held = self.__dict__.get("_held")
        if held is None:
            held = self._held = reopened(*self._how)
        return getattr(held, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyReader, self._how

    def __deepcopy__(self, memo: dict[int, Any]) -> LazyReader:
        return self  # nothing in it changes


def reopened(handle: Handle, mark: Fingerprint) -> Reopenable:
    """Open a checkpoint again, or find it open.

    Args:
        handle: how.
        mark: of the file as it must be.

    Raises:
        ChangedFile: it is another now.
        MissingFile, …: as when it was opened first.

    Cost: opening it with its index; nothing if it is open here already.
    """
    with _turns[hash(handle) % _STRIPES]:
        found: Reopenable | None = _shared.get((handle, mark))
        if found is None:
            found = _shared[handle, mark] = _opened(handle, mark)
        return found


def _opened(handle: Handle, mark: Fingerprint) -> Reopenable:
    held = handle.opener(*handle.arguments, handle.key.read())
    hold = hold_of(held)
    if _mark(hold) != mark:
        hold.source.close()
        hold.entries.close()
        raise ChangedFile(
            "the file is not the one that it was when its handle was pickled: open it again, and send that",
            file=hold.source.name,
        )
    return held


def _anew() -> None:
    """Locks that nobody holds: those of a parent may be held by threads that a fork left behind."""
    global _turns
    _turns = tuple(threading.Lock() for _ in range(_STRIPES))


_turns: tuple[threading.Lock, ...] = ()
_anew()
_shared: weakref.WeakValueDictionary[tuple[Handle, Fingerprint], Any] = weakref.WeakValueDictionary()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_anew)
