"""The index: every parameter of one checkpoint by name and in file order, without its values."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from itertools import chain, count
from typing import TYPE_CHECKING, Final, TypeVar

from lazyckpt.errors import StaleIndex
from lazyckpt.index.records import BadRecord, decode, name_of
from lazyckpt.index.store import Store
from lazyckpt.model.entry import Entry, Fingerprint

if TYPE_CHECKING:
    from lazyckpt.index.name_groups import Group
    from lazyckpt.model.tensor_runs import TensorRun

_S = TypeVar("_S")
_T = TypeVar("_T")
_RUN: Final = 4096  # records fetched at once while iterating


class Index(Mapping[str, Entry]):
    """A read-only mapping name -> Entry, in file order.

    Opening costs the same for ten parameters and for ten million; a look-up is O(log n). Safe for many threads, and
    across fork. The file's values are never read. A sidecar that proves damaged is built again, once, by whoever meets
    the damage (see `mending`): that costs what building it costs.

    Attributes:
        path: the sidecar's path, or None for an index in memory.
        fingerprint: of the file it describes.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def path(self) -> str | None:
        """The sidecar's path, or None for an index in memory. Reads nothing."""
        return self._store.path

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the file it describes: its size in bytes, its time in nanoseconds, a hash of its ends. Reads nothing."""
        return self._store.meta.fingerprint

    @property
    def has_digests(self) -> bool:
        """Whether every entry carries a digest of its content. Reads nothing."""
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
        return chain.from_iterable(self._in_runs(self._some_names))

    def __repr__(self) -> str:
        return f"<Index of {len(self):,} parameters in {self.path or 'memory'}>"

    def entries(self) -> Iterator[Entry]:
        """All entries in file order. Cost: O(1) memory."""
        for record in chain.from_iterable(self.runs()):
            yield self._read(decode, record)

    def runs(self) -> Iterator[list[bytes]]:
        """All records in file order, some thousand at a time (see `record`). Cost: O(1) memory."""
        return self._in_runs(self._store.records)

    def stretches(self) -> Iterator[TensorRun | Entry]:
        """All entries in file order, small tensors that follow one another in stretches.

        Raises:
            StaleIndex: the index contradicts itself.

        Cost: about two microseconds for each tensor of a long stretch, else those of `entries`; O(1) memory.
        """
        from lazyckpt.index.record_runs import stretches

        try:
            yield from stretches(self.runs())
        except BadRecord as error:
            raise self._damaged(str(error)) from error

    def tally(self, *, only: Container[int] | None = None, without: Container[int] = ()) -> list[Group]:
        """How many parameters of which kind there are, names told apart by all but their numbers; see `tally.Group`.

        Args:
            only: the places that count; None for all.
            without: places that do not count.

        Returns:
            Groups, with exact counts and sizes in bytes.

        Cost: half a second for a million parameters (of a sealed index, some microseconds each).
        """
        from lazyckpt.index.name_groups import tally

        runs = self.runs()
        if only is not None or without:
            runs = self._chosen(runs, only, without)
        return self._read(tally, runs)

    def position(self, name: str) -> int | None:
        """The place of a name in file order.

        Args:
            name: any name.

        Returns:
            Its number, from 0; None if there is no such name.

        Cost: O(log n).
        """
        return self._store.position(name)

    def at(self, position: int, name: str | None = None) -> Entry:
        """The entry at a place.

        Args:
            position: the place, from 0 in file order.
            name: whose entry it must be; None for any.

        Returns:
            Name, kind, dtype, shape, and the extents (offset and length in bytes) of the content.

        Raises:
            StaleIndex: the index contradicts itself.

        Cost: O(log n).
        """
        entry = self._read(decode, self._store.record(position))
        if name is not None and entry.name != name:
            raise self._damaged("a name leads to the record of another")
        return entry

    def with_prefix(self, prefix: str) -> list[tuple[str, int]]:
        """Names that start with a prefix.

        Args:
            prefix: any text.

        Returns:
            Names and their places, in file order.

        Cost: O(log n + matches); of a sealed index O(n).
        """
        found = []
        for position in self._store.with_prefix(prefix):
            name = self._read(name_of, self._store.record(position))
            if name.startswith(prefix):
                found.append((name, position))
        return found

    def irregular(self) -> list[Entry]:
        """The entries that need a look before they may be loaded by name. Usually none. Cost: O(log n) each."""
        if not self._store.meta.irregular:
            return []
        return [self.at(position) for position in self._store.irregular()]

    def close(self) -> None:
        """Let go of the sidecar. Reads nothing."""
        self._store.close()

    def _some_names(self, first: int, count: int) -> list[str]:
        try:
            return self._store.names(first, count)
        except BadRecord as error:
            raise self._damaged(str(error)) from error

    def _in_runs(self, fetch: Callable[[int, int], list[_T]]) -> Iterator[list[_T]]:
        """What `fetch` gives for a first place and a count, over all places."""
        done, claimed = 0, len(self)
        while done < claimed:
            run = fetch(done, _RUN)
            if not run:
                raise self._damaged(f"it holds {done:,} records and claims {claimed:,}")
            yield run
            done += len(run)

    @staticmethod
    def _chosen(
        runs: Iterable[list[bytes]], only: Container[int] | None, without: Container[int]
    ) -> Iterator[list[bytes]]:
        places = count()
        for run in runs:
            numbered = zip(run, places, strict=False)  # the run first: a place taken in vain would be lost
            yield [record for record, place in numbered if (only is None or place in only) and place not in without]

    def _read(self, parse: Callable[[_S], _T], record: _S) -> _T:
        try:
            return parse(record)
        except BadRecord as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, why: str) -> StaleIndex:
        return StaleIndex(f"the index is damaged ({why}); rebuild it (lazyckpt index --force)", file=self.path)
