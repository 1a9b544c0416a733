"""Writing a sidecar: one LMDB file, from entries as they stream by, in a few ascending transactions.

Strategy: records are appended in file order while the walk goes on, names are sorted and appended at its end. A small
index is one transaction, a large one many, so that a million parameters need little memory. When LMDB is done, a
checksum of each page and a footer are put behind them (`lmdb_pages`, `footer`). The file is private until it is whole,
so nothing is synced before the end.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import lt
from typing import Final

import lmdb

from lazyckpt.index.footer import Meta, encode_meta, finish
from lazyckpt.index.schema import (
    FACTS,
    FRAMES,
    IRREGULAR,
    LONGEST_PLAIN_NAME,
    PLACE,
    PLAIN_CODEC,
    RECORD_KEY,
    RECORDS,
    Codec,
    record_key,
)
from lazyckpt.index.store import Numbering
from lazyckpt.model.entry import Entry, Plain

_BATCH: Final = 4096  # records a transaction
_FIRST_MAP: Final = 2**20
_Item = tuple[bytes, bytes]


def write(
    path: str, entries: Iterable[Plain | Entry], facts: Meta, codec: Codec = PLAIN_CODEC, frames: bytes | None = None
) -> Meta:
    """Write a whole index to `path`, an empty or absent file that nobody else knows of yet, and sync it.

    Args:
        path: where.
        entries: in file order.
        facts: all but the counts, which are found on the way.
        codec: how keys and values are written.
        frames: the table of frames of an encrypted file, sealed.

    Cost: one pass over `entries`; about 250 bytes of memory a parameter while it runs, 160 on disk.

    Raises:
        OSError: the disk is full or fails.
    """
    with SidecarWriter(path, codec) as writer:
        entries = iter(entries)
        while batch := list(islice(entries, _BATCH)):
            writer.add(batch)
        return writer.finish(facts, frames)


class SidecarWriter:
    """An index on its way to a file: entries are added as they become known, what is known of them all comes last."""

    def __init__(self, path: str, codec: Codec = PLAIN_CODEC) -> None:
        """Start a file; see `write`.

        Raises:
            OSError: it cannot be written.
        """
        self._path = path
        with _as_os_error():
            self._environment = lmdb.open(  # of a text it would want UTF-8, which a name need not be
                os.fsencode(path), subdir=False, lock=False, sync=False, metasync=False, max_dbs=0, map_size=_FIRST_MAP
            )
        self._records = _Records(self._environment, codec)
        self._numbering = Numbering()

    def __enter__(self) -> SidecarWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._environment.close()

    def add(self, entries: Iterable[Plain | Entry]) -> None:
        """Take the next entries, best a few thousand at a time.

        Raises:
            OSError: the disk is full or fails.
        """
        with _as_os_error():
            self._records.add(self._numbering.records(entries))

    def finish(self, facts: Meta, frames: bytes | None = None) -> Meta:
        """Write what is left, and sync the file.

        Args:
            facts: all but the counts.
            frames: the table of frames of an encrypted file, sealed.

        Returns:
            The facts with the counts.

        Raises:
            OSError: the disk is full or fails.
        """
        places, irregular = self._numbering.places, self._numbering.irregular
        meta = facts._replace(parameters=len(places), irregular=len(irregular))
        rest = [(IRREGULAR + PLACE.pack(place), b"") for place in sorted(irregular)]
        told = encode_meta(meta)
        rest.append((FACTS, told))
        if frames is not None:
            rest.append((FRAMES, frames))
        with _as_os_error():
            self._records.finish(places, rest)
            page_size, last_page = self._environment.stat()["psize"], self._environment.info()["last_pgno"]
            self._environment.close()
        finish(self._path, page_size, last_page + 1, told)
        return meta


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except lmdb.Error as error:
        raise OSError(f"writing the index failed: {error}") from error


class _Records:
    """Puts records into the file, a batch at a time."""

    def __init__(self, environment: lmdb.Environment, codec: Codec) -> None:
        self._environment = environment
        self._codec = codec
        self._items: list[_Item] = []  # the newest batch, not written yet
        self._written = 0

    def add(self, records: list[tuple[int, bytes]]) -> None:
        """Take records of places, new or (when a name comes again) old, and write those taken before."""
        if self._items:
            self._put(self._items)
        pack = RECORD_KEY.pack
        items = [(pack(RECORDS, place), record) for place, record in records]
        if self._codec.can_seal:
            items = [(key, self._codec.seal(key, record)) for key, record in items]
        self._items = self._new(items)

    def finish(self, places: dict[bytes, int], rest: list[_Item]) -> None:
        """Write what is left, the names, and whatever else follows."""
        items = self._items
        names = self._in_key_order(places)
        if len(items) + len(names) > _BATCH:
            self._put(items)
            items = []
            for start in range(0, len(names) - _BATCH, _BATCH):
                self._put(self._name_items(names[start : start + _BATCH], places))
            names = names[(len(names) - 1) // _BATCH * _BATCH :]
        self._put([*items, *self._name_items(names, places), *rest])

    def _new(self, items: list[_Item]) -> list[_Item]:
        """A batch in key order; what stands in the file already is overwritten there."""
        first_new = record_key(self._written)
        if items and items[-1][0] == record_key(self._written + len(items) - 1):  # all are new: see `Numbering`
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

    def _in_key_order(self, places: dict[bytes, int]) -> list[bytes]:
        if self._codec.in_name_order and max(map(len, places), default=0) <= LONGEST_PLAIN_NAME:
            return sorted(places)
        return sorted(places, key=self._codec.name_key)

    def _name_items(self, names: list[bytes], places: dict[bytes, int]) -> list[_Item]:
        keys, pack = map(self._codec.name_key, names), PLACE.pack
        return [(key, pack(places[name])) for key, name in zip(keys, names, strict=True)]

    def _put(self, items: list[_Item], append: bool = True) -> None:
        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    transaction.cursor().putmulti(items, append=append)
                return
            except lmdb.MapFullError:
                self._environment.set_mapsize(self._environment.info()["map_size"] * 4)
