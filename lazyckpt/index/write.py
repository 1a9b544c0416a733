"""Write a sidecar: one LMDB file, from a stream of entries, in a few ascending transactions.

Strategy: records are appended in file order during the walk, names are sorted and appended at its end. A small
index is one transaction, a large one many, so that a million parameters need little memory. When LMDB is done, a
checksum of each page and a footer are appended (`lmdb_pages`, `footer`). The file is private until it is whole,
so nothing is synced before the end.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from operator import lt
from typing import Final

import lmdb
import numpy as np

from lazyckpt.index.footer import Meta, encode_meta, finish
from lazyckpt.index.name_table import NameTable
from lazyckpt.index.schema import (
    FACTS,
    FRAMES,
    IRREGULAR,
    ORDINAL,
    PLAIN_CODEC,
    RECORD_KEY,
    RECORDS,
    Codec,
    record_key,
)
from lazyckpt.index.store import Deduplicator
from lazyckpt.model.entry import Found

_BATCH: Final = 4096  # records a transaction
_SORTED_AT_ONCE: Final = 2**16  # names
_FIRST_MAP: Final = 2**20
_Item = tuple[bytes, bytes]


def write(
    path: str, entries: Iterable[Found], facts: Meta, codec: Codec = PLAIN_CODEC, frames: bytes | None = None
) -> Meta:
    """Write a whole index to `path`, an empty or absent private file, and sync it.

    Args:
        path: the file.
        entries: in file order.
        facts: the metadata without the counts.
        codec: how keys and values are written.
        frames: the table of frames of an encrypted file, sealed.

    Cost: one pass over `entries`; about 50 bytes of memory a parameter and its name while it runs, 160 on disk.

    Raises:
        OSError: the disk is full or fails.
    """
    with SidecarWriter(path, codec) as writer:
        entries = iter(entries)
        while batch := list(islice(entries, _BATCH)):
            writer.add(batch)
        return writer.finish(facts, frames)


class SidecarWriter:
    """Writes a sidecar as its entries become known; names and metadata come last."""

    def __init__(self, path: str, codec: Codec = PLAIN_CODEC) -> None:
        """Start a file; see `write`.

        Raises:
            OSError: it cannot be written.
        """
        self._path = path
        with _as_os_error():
            self._environment = lmdb.open(  # bytes, because a file name need not be UTF-8
                os.fsencode(path), subdir=False, lock=False, sync=False, metasync=False, max_dbs=0, map_size=_FIRST_MAP
            )
        self._records = _Records(self._environment, codec)
        self._numbering = Deduplicator()

    def __enter__(self) -> SidecarWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._environment.close()

    def add(self, entries: Iterable[Found]) -> None:
        """Add the next entries; a few thousand at a time are best.

        Raises:
            OSError: the disk is full or fails.
        """
        with _as_os_error():
            self._records.add(self._numbering.records(entries))

    def finish(self, facts: Meta, frames: bytes | None = None) -> Meta:
        """Write the rest, and sync the file.

        Args:
            facts: the metadata without the counts.
            frames: the table of frames of an encrypted file, sealed.

        Returns:
            The metadata with the counts.

        Raises:
            OSError: the disk is full or fails.
        """
        names, irregular = self._numbering.names, self._numbering.irregular
        meta = facts._replace(parameters=len(names), irregular=len(irregular))
        encoded = encode_meta(meta)
        rest = [(FACTS, encoded)]
        if frames is not None:
            rest.append((FRAMES, frames))
        with _as_os_error():
            self._records.finish(names, irregular, rest)
            page_size, last_page = self._environment.stat()["psize"], self._environment.info()["last_pgno"]
            self._environment.close()
        finish(self._path, page_size, last_page + 1, encoded)
        return meta


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except lmdb.Error as error:
        raise OSError(f"writing the index failed: {error}") from error


class _Records:
    """Writes records to the file, a batch at a time."""

    def __init__(self, environment: lmdb.Environment, codec: Codec) -> None:
        self._environment = environment
        self._codec = codec
        self._items: list[_Item] = []  # the newest batch, not written yet
        self._written = 0

    def add(self, records: list[tuple[int, bytes]]) -> None:
        """Take records by ordinal, new or (for repeated names) old; write the batch before."""
        if self._items:
            self._put(self._items)
        pack = RECORD_KEY.pack
        items = [(pack(RECORDS, ordinal), record) for ordinal, record in records]
        if self._codec.can_seal:
            items = [(key, self._codec.seal(key, record)) for key, record in items]
        self._items = self._new(items)

    def finish(self, names: NameTable, irregular: list[int], rest: list[_Item]) -> None:
        """Write the last batch, the names, and other items. A small index is one transaction."""
        marks = ((IRREGULAR + ORDINAL.pack(ordinal), b"") for ordinal in irregular)
        items = self._items
        for item in chain(self._name_items(names), marks, rest):
            items.append(item)
            if len(items) >= _BATCH:
                self._put(items)
                items = []
        self._put(items)

    def _new(self, items: list[_Item]) -> list[_Item]:
        """The new records of a batch, in key order; old records are overwritten in the file."""
        first_new = record_key(self._written)
        if items and items[-1][0] == record_key(self._written + len(items) - 1):  # all are new: see `Deduplicator`
            self._written += len(items)
            return items
        keys = [key for key, _ in items]
        if not all(map(lt, keys, islice(keys, 1, None))) or (keys and keys[0] < first_new):
            latest = sorted(dict(items).items())
            old = [item for item in latest if item[0] < first_new]
            items = latest[len(old) :]
            self._put(old, append=False)
        self._written += len(items)
        return items

    def _name_items(self, names: NameTable) -> Iterator[_Item]:
        """The keys of names with their ordinals, in key order.

        Sorting all keys at once would take fifty bytes for a name of three. So their first bytes are sorted as numbers,
        and then all keys of a range of these.
        """
        key_of, pack = self._codec.name_key, ORDINAL.pack
        for ordinals in _in_ranges(names, key_of):
            keys = map(key_of, map(names.names.__getitem__, ordinals))
            yield from sorted(zip(keys, map(pack, ordinals), strict=True))

    def _put(self, items: list[_Item], append: bool = True) -> None:
        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    transaction.cursor().putmulti(items, append=append)
                return
            except lmdb.MapFullError:
                self._environment.set_mapsize(self._environment.info()["map_size"] * 4)


def _in_ranges(names: NameTable, key_of: Callable[[bytes], bytes]) -> Iterator[Sequence[int]]:
    """The ordinals of names, in ranges of their keys; within a range they are in no order."""
    count = len(names)
    if count <= _SORTED_AT_ONCE:
        yield range(count)
        return
    firsts = np.empty(count, np.uint64)
    for start in range(0, count, _BATCH):
        keys = map(key_of, names.names[start : start + _BATCH])
        joined = b"".join([key[1:9].ljust(8, b"\0") for key in keys])  # the first byte is that of all names
        firsts[start : start + _BATCH] = np.frombuffer(joined, ">u8")
    order = np.argsort(firsts, kind="stable")
    firsts = firsts[order]
    start = 0
    while start < count:
        stop = min(start + _SORTED_AT_ONCE, count)
        stop = int(np.searchsorted(firsts, firsts[stop - 1], "right"))
        yield order[start:stop].tolist()
        start = stop
