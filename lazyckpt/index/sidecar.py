"""The index as one LMDB file, written once and then shared, read-only, by any number of processes.

Keys of the one B-tree, so that a scan is written in one ascending sweep:

    01 place u32 BE           record of the parameter at that place
    02 name UTF-8             place u32 BE; a name over 400 bytes is cut there and ends in FF and a hash of all of it
    03 place u32 BE           (empty) the parameter needs a look before it may be loaded by name
    04                        facts (`record.Meta`)

Rules. Readers open with `readonly, lock=False`: no lock file, no writer ever. LMDB refuses to open a file twice in a
process, so environments are shared, by device and inode, and reopened in a forked child. A transaction never outlives
a call. LMDB trusts its pages, so before it is opened a file is measured against what its own header claims.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import threading
import weakref
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import lt
from typing import Final

import lmdb

from lazyckpt.entry import Entry, Fingerprint
from lazyckpt.errors import StaleIndex
from lazyckpt.index.record import BadRecord, Meta, decode_meta, encode_meta
from lazyckpt.index.store import Numbering

SUFFIX: Final = ".lmdb"
_NAME: Final = b"\x02"
_IRREGULAR: Final = b"\x03"
_FACTS: Final = b"\x04"
_PLACE: Final = struct.Struct(">I")
_RECORD_KEY: Final = struct.Struct(">BI")
_LONGEST_PLAIN_NAME: Final = 400
_BATCH: Final = 4096  # records a transaction, so that a million need little memory
_FIRST_MAP: Final = 2**20


def write(path: str, entries: Iterable[Entry], fingerprint: Fingerprint, digests: bool = False) -> Meta:
    """Write a whole index to `path`, an empty or absent file that nobody else knows of yet, and sync it.

    Cost: one pass over `entries`; about 250 bytes of memory a parameter while it runs, 160 on disk.

    Raises:
        OSError: the disk is full or fails.
    """
    try:
        with contextlib.closing(_create(path)) as environment:
            numbering = Numbering()
            written = 0
            items: list[tuple[bytes, bytes]] = []
            for place, record in numbering.records(entries):
                items.append((_RECORD_KEY.pack(1, place), record))
                if len(items) == _BATCH:
                    written = _put_records(environment, items, written)
                    items = []
            meta = numbering.meta(fingerprint, digests)
            names, rest = _in_key_order(numbering.places), _rest(numbering, meta)
            if len(items) + len(names) <= _BATCH:  # a small index is one transaction
                items = _in_order(environment, items, written)
                _put(environment, [*items, *_name_items(names, numbering.places), *rest])
            else:
                _put_records(environment, items, written)
                del items
                for start in range(0, len(names), _BATCH):
                    _put(environment, _name_items(names[start : start + _BATCH], numbering.places))
                _put(environment, rest)
            environment.sync(True)
            return meta
    except lmdb.Error as error:
        raise OSError(f"writing the index failed: {error}") from error


def _create(path: str) -> lmdb.Environment:
    return lmdb.open(path, subdir=False, lock=False, sync=False, metasync=False, max_dbs=0, map_size=_FIRST_MAP)


def _put_records(environment: lmdb.Environment, items: list[tuple[bytes, bytes]], written: int) -> int:
    items = _in_order(environment, items, written)
    _put(environment, items)
    return written + len(items)


def _in_order(
    environment: lmdb.Environment, items: list[tuple[bytes, bytes]], written: int
) -> list[tuple[bytes, bytes]]:
    """The items that are new, ascending. A name that came twice overwrites: here, or in the file if it is there."""
    ascending = all(map(lt, items, islice(items, 1, None)))
    if ascending and (not items or items[0][0] >= _RECORD_KEY.pack(1, written)):
        return items
    first_new = _RECORD_KEY.pack(1, written)
    latest = sorted(dict(items).items())
    old = [item for item in latest if item[0] < first_new]
    if old:
        _put(environment, old, append=False)
    return latest[len(old) :]


def _in_key_order(places: dict[bytes, int]) -> list[bytes]:
    longest = max(map(len, places), default=0)
    return sorted(places) if longest <= _LONGEST_PLAIN_NAME else sorted(places, key=name_key)


def _name_items(names: list[bytes], places: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    pack = _PLACE.pack
    return [(name_key(name), pack(places[name])) for name in names]


def _rest(numbering: Numbering, meta: Meta) -> list[tuple[bytes, bytes]]:
    items = [(_IRREGULAR + _PLACE.pack(place), b"") for place in sorted(numbering.irregular)]
    return [*items, (_FACTS, encode_meta(meta))]


def _put(environment: lmdb.Environment, items: list[tuple[bytes, bytes]], append: bool = True) -> None:
    while True:
        try:
            with environment.begin(write=True) as transaction:
                transaction.cursor().putmulti(items, append=append)
            return
        except lmdb.MapFullError:
            environment.set_mapsize(environment.info()["map_size"] * 4)


def name_key(name: bytes) -> bytes:
    """The key of a name. LMDB's keys end at 511 bytes, so a long one is cut and told apart by a hash."""
    if len(name) <= _LONGEST_PLAIN_NAME:
        return _NAME + name
    return _NAME + name[:_LONGEST_PLAIN_NAME] + b"\xff" + hashlib.blake2b(name, digest_size=32).digest()


class _Environment:
    """One open LMDB environment, closed with its last user."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.process = os.getpid()
        _measure(path)
        self.lmdb = lmdb.open(path, subdir=False, readonly=True, lock=False, readahead=False, create=False, max_dbs=0)

    def __del__(self) -> None:
        opened = getattr(self, "lmdb", None)
        if opened is not None:
            opened.close()


_open: weakref.WeakValueDictionary[tuple[int, int], _Environment] = weakref.WeakValueDictionary()
_opening = threading.Lock()


def _after_fork() -> None:
    global _open, _opening
    _open, _opening = weakref.WeakValueDictionary(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _environment(path: str) -> _Environment:
    with _opening:
        status = os.stat(path)
        identity = (status.st_dev, status.st_ino)
        environment = _open.get(identity)
        if environment is None:
            environment = _open[identity] = _Environment(path)
        return environment


def _measure(path: str) -> None:
    """Refuse a file that is shorter than its LMDB header says (touching a missing page would end the process)."""
    with open(path, "rb") as file:
        head = file.read(2 * 65_536)
        size = os.fstat(file.fileno()).st_size
    page = max(4096, _page_size(head))
    for meta in (head[:page], head[page : 2 * page]):
        # A page header of 16 bytes; then magic u32, version u32, address, map size, two trees of 48 bytes, last page.
        if len(meta) < 152 or meta[16:20] != b"\xde\xc0\xef\xbe":
            raise BadRecord("no LMDB file")
        (last_page,) = struct.unpack_from("<Q", meta, 16 + 24 + 96)
        if (last_page + 1) * page > size:
            raise BadRecord("the index is cut short")


def _page_size(head: bytes) -> int:
    return struct.unpack_from("<I", head, 16 + 24)[0] if len(head) >= 44 else 0


class Sidecar:
    """A store over a finished LMDB file."""

    def __init__(self, path: str) -> None:
        """Open an index. Cost: one LMDB open (or none, when this process has it open) and one look-up.

        Raises:
            BadRecord: it is damaged, foreign, or another version's.
            OSError: it is not there, or may not be read.
        """
        self.path = path
        try:
            self._shared = _environment(path)
            facts = self._get(_FACTS)
        except (lmdb.Error, StaleIndex) as error:
            raise BadRecord(f"LMDB cannot open it: {error.__cause__ or error}") from error
        self.meta = decode_meta(facts or b"")
        self._facts = facts

    def close(self) -> None:
        """Let go of the environment; it closes with its last user."""
        self.__dict__.pop("_shared", None)

    def position(self, name: str) -> int | None:
        """See `Store.position`."""
        try:
            place = self._get(name_key(name.encode()))
        except UnicodeEncodeError:
            return None
        return None if place is None else self._place(place)

    def record(self, position: int) -> bytes:
        """See `Store.record`."""
        record = self._get(_RECORD_KEY.pack(1, position))
        if record is None:
            raise self._damaged()
        return record

    def records(self, first: int, count: int) -> list[bytes]:
        """See `Store.records`."""
        with self._cursor() as cursor:
            if not cursor.set_range(_RECORD_KEY.pack(1, first)):
                return []
            wanted = min(count, self.meta.parameters - first)
            return list(islice(cursor.iternext(keys=False, values=True), max(0, wanted)))

    def with_prefix(self, prefix: str) -> list[int]:
        """See `Store.with_prefix`."""
        start = (_NAME + prefix.encode(errors="surrogatepass"))[: 1 + _LONGEST_PLAIN_NAME]
        places = []
        with self._cursor() as cursor:
            if cursor.set_range(start):
                for key, place in cursor:
                    if not key.startswith(start):
                        break
                    places.append(self._place(place))
        return sorted(places)

    def irregular(self) -> list[int]:
        """See `Store.irregular`."""
        with self._cursor() as cursor:
            if not cursor.set_range(_IRREGULAR):
                return []
            keys = list(cursor.iternext(keys=True, values=False))
        return [self._place(key[1:]) for key in keys if key[:1] == _IRREGULAR]

    def _get(self, key: bytes) -> bytes | None:
        try:
            with self._lmdb().begin() as transaction:
                return transaction.get(key)
        except lmdb.Error as error:
            raise self._damaged() from error

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[lmdb.Cursor[bytes]]:
        try:
            with self._lmdb().begin() as transaction, transaction.cursor() as cursor:
                yield cursor
        except lmdb.Error as error:
            raise self._damaged() from error

    def _lmdb(self) -> lmdb.Environment:
        if self._shared.process != os.getpid():
            self._reopen()
        return self._shared.lmdb

    def _reopen(self) -> None:
        try:
            self._shared = _environment(self.path)
            if self._get(_FACTS) == self._facts:
                return
        except (OSError, BadRecord, StaleIndex, lmdb.Error):
            pass
        raise StaleIndex("the index was replaced or removed before this process was forked; open the checkpoint again")

    def _place(self, data: bytes) -> int:
        if len(data) != 4:
            raise self._damaged()
        place = int.from_bytes(data, "big")
        if place >= self.meta.parameters:
            raise self._damaged()
        return place

    def _damaged(self) -> StaleIndex:
        return StaleIndex("the index is damaged; delete it or rebuild it (lazyckpt index --force)", file=self.path)
