"""The index: every parameter of one checkpoint by name and in file order, without its values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeVar

from lazyckpt.entry import Entry, Fingerprint
from lazyckpt.errors import StaleIndex
from lazyckpt.index.record import BadRecord, decode, name_of
from lazyckpt.index.store import Store

_T = TypeVar("_T")
_RUN: Final = 4096  # records fetched at once while iterating


class Index(Mapping[str, Entry]):
    """A read-only mapping name -> Entry, in file order.

    Opening costs the same for ten parameters and for ten million; a look-up is O(log n). Safe for many threads, and
    across fork. The file's values are never read.

    Attributes:
        path: the sidecar's path, or None for an index in memory.
        fingerprint: of the file it describes.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def path(self) -> str | None:
        """The sidecar's path, or None for an index in memory."""
        return self._store.path

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the file it describes."""
        return self._store.meta.fingerprint

    @property
    def has_digests(self) -> bool:
        """Whether every entry carries a digest of its content."""
        return self._store.meta.digests

    def __len__(self) -> int:
        return self._store.meta.parameters

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._store.position(name) is not None

    def __getitem__(self, name: str) -> Entry:
        position = self._store.position(name) if isinstance(name, str) else None
        if position is None:
            raise KeyError(name)
        return self.at(position, name)

    def __iter__(self) -> Iterator[str]:
        for record in self._records():
            yield self._read(name_of, record)

    def __repr__(self) -> str:
        return f"<Index of {len(self):,} parameters in {self.path or 'memory'}>"

    def entries(self) -> Iterator[Entry]:
        """All entries in file order. Cost: O(1) memory."""
        for record in self._records():
            yield self._read(decode, record)

    def position(self, name: str) -> int | None:
        """The place of a name in file order, or None."""
        return self._store.position(name)

    def at(self, position: int, name: str | None = None) -> Entry:
        """The entry at a place; with `name`, only if it is that name's.

        Raises:
            StaleIndex: the index contradicts itself.
        """
        entry = self._read(decode, self._store.record(position))
        if name is not None and entry.name != name:
            raise self._damaged("a name leads to the record of another")
        return entry

    def with_prefix(self, prefix: str) -> list[tuple[str, int]]:
        """Names that start with `prefix`, with their places, in file order. Cost: O(log n + matches)."""
        found = []
        for position in self._store.with_prefix(prefix):
            name = self._read(name_of, self._store.record(position))
            if name.startswith(prefix):
                found.append((name, position))
        return found

    def irregular(self) -> list[Entry]:
        """The entries that need a look before they may be loaded by name. Usually none, at no cost."""
        if not self._store.meta.irregular:
            return []
        return [self.at(position) for position in self._store.irregular()]

    def close(self) -> None:
        """Let go of the sidecar."""
        self._store.close()

    def _records(self) -> Iterator[bytes]:
        done, count = 0, len(self)
        while done < count:
            run = self._store.records(done, _RUN)
            if not run:
                raise self._damaged(f"it holds {done:,} records and claims {count:,}")
            yield from run
            done += len(run)

    def _read(self, parse: Callable[[bytes], _T], record: bytes) -> _T:
        try:
            return parse(record)
        except BadRecord as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, why: str) -> StaleIndex:
        return StaleIndex(f"the index is damaged ({why}); rebuild it (lazyckpt index --force)", file=self.path)
