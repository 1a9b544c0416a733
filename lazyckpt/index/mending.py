"""A store that is built again, once, when what it reads proves damaged after it was opened.

Opening an index reads a few pages of it; damage in any other page shows when that is read. Then the index is built
again in its place, from the file, which heals it for everybody, and whoever met the damage reads on in the new one.
That is done only if the new one says the same of the file as the old one did: another version of the file has other
values, and digests can only be had of the file as it was. Else the damage is told, and the next open finds the new
index.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final

from lazyckpt.errors import LazyCkptError, StaleIndex
from lazyckpt.index.records import Meta
from lazyckpt.index.sidecar import Sidecar
from lazyckpt.index.store import Store
from lazyckpt.runtime import log

_NO_SALT: Final = bytes(16)


class MendingStore:
    """A sidecar, or what took its place. Safe for many threads, and across fork."""

    def __init__(self, sidecar: Sidecar, again: Callable[[Sidecar], Store]) -> None:
        """Read a sidecar.

        Args:
            sidecar: an open one.
            again: builds it again; called once at most.
        """
        self._store: Store = sidecar
        self._mend: tuple[Sidecar, Callable[[Sidecar], Store]] | None = (sidecar, again)
        self._closed = False

    @property
    def meta(self) -> Meta:
        """See `Store.meta`."""
        return self._store.meta

    @property
    def path(self) -> str | None:
        """See `Store.path`."""
        return self._store.path

    def position(self, name: str) -> int | None:
        """See `Store.position`."""
        store = self._store
        try:
            return store.position(name)
        except StaleIndex as error:
            return self._mended(store, error).position(name)

    def record(self, position: int) -> bytes:
        """See `Store.record`."""
        store = self._store
        try:
            return store.record(position)
        except StaleIndex as error:
            return self._mended(store, error).record(position)

    def records(self, first: int, count: int) -> list[bytes]:
        """See `Store.records`."""
        store = self._store
        try:
            return store.records(first, count)
        except StaleIndex as error:
            return self._mended(store, error).records(first, count)

    def names(self, first: int, count: int) -> list[str]:
        """See `Store.names`."""
        store = self._store
        try:
            return store.names(first, count)
        except StaleIndex as error:
            return self._mended(store, error).names(first, count)

    def with_prefix(self, prefix: str) -> list[int]:
        """See `Store.with_prefix`."""
        store = self._store
        try:
            return store.with_prefix(prefix)
        except StaleIndex as error:
            return self._mended(store, error).with_prefix(prefix)

    def irregular(self) -> list[int]:
        """See `Store.irregular`."""
        store = self._store
        try:
            return store.irregular()
        except StaleIndex as error:
            return self._mended(store, error).irregular()

    def close(self) -> None:
        """Let go of what is held open."""
        self._closed = True
        self._mend = None  # what builds it again has the file's key
        self._store.close()

    def _mended(self, damaged: Store, error: StaleIndex) -> Store:
        """The store that takes the place of one that proved damaged.

        Raises:
            StaleIndex: there is none that says the same of the file.
        """
        with _turn:
            if self._store is not damaged:  # another thread was here before
                return self._store
            if self._mend is None:
                raise error
            (sidecar, again), self._mend = self._mend, None
            log.info("the index %s is built again: %s", sidecar.path, error.what)
            try:
                new = again(sidecar)
            except (LazyCkptError, OSError) as why:
                raise error from why
            if _said(new.meta) != _said(sidecar.meta):
                new.close()
                raise StaleIndex(
                    f"the index was damaged ({error.what}); it was built again and is another now, because the file"
                    " changed or the old one had digests: open the checkpoint again",
                    file=sidecar.path,
                )
            self._store = new
        sidecar.close()
        if self._closed:
            new.close()
        return new


def _said(meta: Meta) -> Meta:
    """What an index says of its file, whatever it is sealed with."""
    return meta._replace(salt=_NO_SALT, check=_NO_SALT)


def _anew() -> None:
    """A lock that nobody holds: a parent's may be held by a thread that a fork left behind."""
    global _turn
    _turn = threading.Lock()


_turn = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_anew)
