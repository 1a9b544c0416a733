"""`StoredIndex`: the index of one file, in a sidecar or in memory, and its repair.

Opening a sidecar reads a few of its pages, so damage in any other page is detected when that page is read. The index is
then rebuilt from the file, at the same path, which repairs it for every process, and the call that detected the damage
continues with the new index. This happens at most once, and only if the metadata of the new index equal those of the
old: another version of the file has other values, and the digests of the old version cannot be computed again.
Otherwise an error is raised, and the next open uses the new index.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final, TypeVar

from lazyckpt.display import printable
from lazyckpt.errors import LazyCkptError, StaleIndex
from lazyckpt.index import Index
from lazyckpt.index.footer import Meta
from lazyckpt.index.records import BadRecord, decode, name_of
from lazyckpt.index.sidecar import Sidecar
from lazyckpt.index.store import Store
from lazyckpt.model.entry import Entry, Fingerprint
from lazyckpt.model.tensor_runs import TensorRun
from lazyckpt.runtime import log

_T = TypeVar("_T")
_BATCH: Final = 4096  # records fetched at once while iterating
_SPARSE: Final = 6  # names in a range for each wanted one, up to which all of them are read
_NO_SALT: Final = bytes(16)


class StoredIndex(Index):
    """An index over a store. Safe for many threads, and across fork.

    A damaged sidecar is rebuilt, once, by the call that detects the damage; that call then costs as much as building
    the index.
    """

    def __init__(self, store: Store, rebuild: Callable[[Sidecar], StoredIndex] | None = None) -> None:
        """Read a store.

        Args:
            store: an open one.
            rebuild: builds a damaged sidecar again; called once at most. None for a store that cannot be repaired.
        """
        self._store = store
        self._rebuild = rebuild
        self._closed = False
        self._version = 0  # how often other entries took the place of those that were given out

    @property
    def path(self) -> str | None:
        """See `Index.path`."""
        return self._store.path

    @property
    def fingerprint(self) -> Fingerprint:
        """See `Index.fingerprint`."""
        return self._store.meta.fingerprint

    @property
    def has_digests(self) -> bool:
        """See `Index.has_digests`."""
        return self._store.meta.digests

    def __len__(self) -> int:
        return self._store.meta.parameters

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._batches(self._names))

    def __repr__(self) -> str:
        return f"<Index of {len(self):,} parameters in {printable(self.path or 'memory')}>"

    def entries(self) -> Iterator[Entry]:
        """See `Index.entries`."""
        for record in chain.from_iterable(self._record_batches()):
            try:
                entry = decode(record, is_trusted=False)
            except BadRecord as error:
                raise self._damaged(str(error)) from error
            yield entry  # not in the `try`: at the interpreter's end a generator is closed when `BadRecord` is gone

    def position(self, name: str) -> int | None:
        """See `Index.position`."""
        store = self._store
        try:
            return store.position(name)
        except StaleIndex as error:
            return self._repaired(store, error).position(name)

    def at(self, position: int, name: str | None = None) -> Entry:
        """See `Index.at`."""
        try:
            entry = decode(self._record(position), is_trusted=False)
        except BadRecord as error:
            raise self._damaged(str(error)) from error
        if name is not None and entry.name != name:
            raise self._damaged("a name leads to the record of another")
        return entry

    def with_prefix(self, prefix: str) -> list[tuple[str, int]]:
        """See `Index.with_prefix`."""
        positions = self._ask(lambda store: store.with_prefix(prefix))
        if not positions:
            return []
        first, end = positions[0], positions[-1] + 1
        if end - first <= _SPARSE * len(positions):  # mostly neighbours in the file: a walk is cheaper than look-ups
            wanted = set(positions) if end - first > len(positions) else None
            walked = zip(self._names_between(first, end), range(first, end), strict=True)
            found = [(name, position) for name, position in walked if wanted is None or position in wanted]
        else:
            found = [(self._name_at(position), position) for position in positions]
        # Long prefixes are looked up by their first bytes only.
        return [(name, position) for name, position in found if name.startswith(prefix)]

    def close(self) -> None:
        """See `Index.close`."""
        self._closed = True
        self._rebuild = None  # it holds the file's key
        self._store.close()

    def _record_batches(self) -> Iterator[list[bytes]]:
        return self._batches(lambda first, count: self._ask(lambda store: store.records(first, count)))

    def _tensor_runs(self) -> Iterator[TensorRun | Entry]:
        from lazyckpt.index.record_runs import runs_in

        runs = runs_in(self._record_batches())
        while True:
            try:
                found = next(runs, None)
            except BadRecord as error:
                raise self._damaged(str(error)) from error
            if found is None:
                return
            yield found  # not in the `try`, as in `entries`

    def _some_with_prefix(self, prefix: str, most: int) -> list[str]:
        """See `Index._some_with_prefix`."""
        positions = self._ask(lambda store: store.some_with_prefix(prefix, most))
        return [name for name in map(self._name_at, positions) if name.startswith(prefix)]

    def _irregular(self) -> Iterator[tuple[int, Entry]]:
        if not self._store.meta.irregular:
            return
        for position in self._ask(lambda store: store.irregular()):
            yield position, self.at(position)

    def _names(self, first: int, count: int) -> list[str]:
        try:
            return self._ask(lambda store: store.names(first, count))
        except BadRecord as error:
            raise self._damaged(str(error)) from error

    def _names_between(self, first: int, end: int) -> Iterator[str]:
        """The names at the ordinals from `first` to `end`."""
        while first < end:
            batch = self._names(first, min(_BATCH, end - first))
            if not batch:
                raise self._damaged(f"there is no record {first}")
            yield from batch
            first += len(batch)

    def _name_at(self, position: int) -> str:
        try:
            return name_of(self._record(position))
        except BadRecord as error:
            raise self._damaged(str(error)) from error

    def _batches(self, fetch: Callable[[int, int], list[_T]]) -> Iterator[list[_T]]:
        """The batches that `fetch` returns for a first ordinal and a count, over all ordinals."""
        done, claimed, version = 0, len(self), self._version
        while done < claimed:
            batch = fetch(done, _BATCH)
            if version != self._version:
                raise StaleIndex("the index was built again while it was walked: walk it again", file=self.path)
            if not batch:
                raise self._damaged(f"it holds {done:,} records and claims {claimed:,}")
            yield batch
            done += len(batch)

    def _record(self, position: int) -> bytes:
        store = self._store
        try:
            return store.record(position)
        except StaleIndex as error:
            return self._repaired(store, error).record(position)

    def _ask(self, question: Callable[[Store], _T]) -> _T:
        """Call a store, and repair it if needed; `position` and `_record` inline this for speed."""
        store = self._store
        try:
            return question(store)
        except StaleIndex as error:
            return question(self._repaired(store, error))

    def _repaired(self, damaged: Store, error: StaleIndex) -> Store:
        """The store that replaces a damaged one.

        Raises:
            StaleIndex: it cannot be rebuilt, or the new index has other metadata.
        """
        return self._replaced(damaged, error, lambda old, new: _without_salt(old) == _without_salt(new))

    def _corrected(self, entry: Entry, error: StaleIndex) -> Entry:
        store = self._store
        if self._rebuild is not None:
            self._version += 1
            self._replaced(store, error, _has_as_many)
        position = self.position(entry.name)
        found = None if position is None else self.at(position, entry.name)
        if found == entry:
            raise error
        if found is None or (found.kind, found.dtype, found.shape) != (entry.kind, entry.dtype, entry.shape):
            what = "gone" if found is None else f"a {found.kind} of {found.dtype} {found.shape}"
            raise StaleIndex(
                f"the index was of another file, of the same size, time and ends, and was built again. The value is"
                f" {what} now: open the checkpoint again",
                file=self.path,
                parameter=entry.name,
            )
        return found

    def _replaced(self, damaged: Store, error: StaleIndex, fits: Callable[[Meta, Meta], bool]) -> Store:
        """The store that replaces one that is damaged or contradicts the file.

        Args:
            damaged: the store.
            error: says how.
            fits: whether the names and ordinals that were given out may be used with the new one, by both metadata.

        Raises:
            StaleIndex: it cannot be rebuilt, or the new index does not fit.
        """
        with _lock:
            if self._store is not damaged:  # another thread has repaired it
                return self._store
            if self._rebuild is None or not isinstance(damaged, Sidecar):
                raise error
            rebuild, self._rebuild = self._rebuild, None
            log.info("the index %s is built again: %s", damaged.path, error.what)
            try:
                new = rebuild(damaged)._store
            except (LazyCkptError, OSError) as why:
                raise error from why
            if not fits(damaged.meta, new.meta):
                new.close()
                raise StaleIndex(
                    f"the index was damaged ({error.what}); it was built again and differs now, because the file"
                    " changed or the old one had digests: open the checkpoint again",
                    file=damaged.path,
                )
            self._store = new
        damaged.close()
        if self._closed:  # `close` came while the lock was held
            new.close()
        return new

    def _damaged(self, why: str) -> StaleIndex:
        return StaleIndex(f"the index is damaged ({why}); rebuild it (lazyckpt index --force)", file=self.path)


def _has_as_many(old: Meta, new: Meta) -> bool:
    """Whether an index replaces one that the file contradicts: ordinals stay in range, and names are compared.

    Digests, and the table of frames of an encrypted file, are there to detect changes. So their loss is an error, once.
    """
    is_bare = not old.digests and old.salt == _NO_SALT
    return is_bare and (old.parameters, old.irregular) == (new.parameters, new.irregular)


def _without_salt(meta: Meta) -> Meta:
    """The part of an index's metadata that depends on the file alone, not on the sealing."""
    return meta._replace(salt=_NO_SALT, check=_NO_SALT)


def _new_lock() -> None:
    """A free lock for a forked child: a thread that the fork left behind may hold the parent's."""
    global _lock
    _lock = threading.Lock()


_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)
