"""The index as one LMDB file, written once (`write`) and then shared, read-only, by any number of processes.

Rules. Readers open with `readonly, lock=False`: no lock file, no writer ever. LMDB refuses to open a file twice in a
process, so environments are shared, by device and inode, and reopened in a forked child. A transaction never outlives
a call. LMDB trusts its pages, so before it is opened a file is measured against what its own header claims.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import weakref
from collections.abc import Iterator
from itertools import islice
from typing import Final

import lmdb

from lazyckpt.errors import ClosedCheckpoint, StaleIndex
from lazyckpt.index.codec import CLEAR, LONGEST_PLAIN_NAME, Codec
from lazyckpt.index.layout import FACTS, FRAMES, IRREGULAR, PLACE, record_key
from lazyckpt.index.record import BadRecord, decode_meta, name_of

# Of an LMDB meta page: a page header of 16 bytes, magic u32, version u32, address, map size; for each of two trees the
# page size (of the first), 36 bytes, its root's page; the last page.
_META: Final = struct.Struct("<16x I 20x I 36x Q 40x Q Q")
_MAGIC: Final = 0xBEEFC0DE
_NO_PAGE: Final = 2**64 - 1
_SMALLEST_PAGE: Final = 512
_LARGEST_PAGE: Final = 65_536
_RUN: Final = 4096  # records of a sealed index opened at once


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
    """In the child: close what the parent opened (LMDB would refuse to open it again), so that it is opened anew."""
    global _open, _opening
    for environment in list(_open.values()):
        environment.lmdb.close()
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
    """Refuse a file whose LMDB header is impossible, or says that it is longer than it is.

    LMDB believes its header (some versions divide by the page size unseen), and touching a missing page would end the
    process.
    """
    with open(path, "rb") as file:
        head = file.read(2 * _LARGEST_PAGE)
        size = os.fstat(file.fileno()).st_size
    page = _META.unpack_from(head)[1] if len(head) >= _META.size else 0
    if not _SMALLEST_PAGE <= page <= _LARGEST_PAGE or page & (page - 1) or len(head) < page + _META.size:
        raise BadRecord("no LMDB file")
    for meta in (_META.unpack_from(head), _META.unpack_from(head, page)):
        magic, page_size, free, names, last_page = meta
        if magic != _MAGIC or page_size != page:
            raise BadRecord("no LMDB file")
        if (last_page + 1) * page > size or any(
            not 1 < root <= last_page for root in (free, names) if root != _NO_PAGE
        ):
            raise BadRecord("the index is cut short or damaged")


class Sidecar:
    """A store over a finished LMDB file."""

    def __init__(self, path: str) -> None:
        """Open an index. Cost: one LMDB open (or none, when this process has it open) and one look-up.

        A sealed one must be given its codec (`unlock`) before its records can be read.

        Raises:
            BadRecord: it is damaged, foreign, or another version's.
            OSError: it is not there, or may not be read.
        """
        self.path: str | None = path
        self._path = path
        self._codec: Codec = CLEAR
        try:
            self._shared: _Environment | None = _environment(path)
            facts = self._get(FACTS)
        except (lmdb.Error, StaleIndex) as error:
            raise BadRecord(f"LMDB cannot open it: {error.__cause__ or error}") from error
        self.meta = decode_meta(facts or b"")
        self._facts = facts

    def unlock(self, codec: Codec) -> None:
        """Give a sealed index its codec."""
        self._codec = codec

    def close(self) -> None:
        """Let go of the environment; it closes with its last user."""
        self._shared = None

    def frames(self, seal: Codec) -> bytes | None:
        """The table of frames of an encrypted file, which is sealed even where records are not.

        Returns:
            None if there is none, or none that was sealed with this key.
        """
        stored = self._get(FRAMES)
        return None if stored is None else seal.open(FRAMES, stored)

    def position(self, name: str) -> int | None:
        """See `Store.position`."""
        try:
            place = self._get(self._codec.name_key(name.encode()))
        except UnicodeEncodeError:
            return None
        return None if place is None else self._place(place)

    def record(self, position: int) -> bytes:
        """See `Store.record`."""
        key = record_key(position)
        record = self._get(key)
        if record is None:
            raise self._damaged()
        return self._opened(key, record)

    def records(self, first: int, count: int) -> list[bytes]:
        """See `Store.records`."""
        wanted = max(0, min(count, self.meta.parameters - first))
        with self._cursor() as cursor:
            if not wanted or not cursor.set_range(record_key(first)):
                return []
            if not self._codec.can_seal:
                return list(islice(cursor.iternext(keys=False, values=True), wanted))
            items = list(islice(cursor.iternext(), wanted))
        return [self._opened(key, record) for key, record in items]

    def with_prefix(self, prefix: str) -> list[int]:
        """See `Store.with_prefix`; of a sealed index every record is opened."""
        if self._codec.in_name_order:
            return self._in_range(self._codec.name_key(prefix.encode(errors="surrogatepass"))[: 1 + LONGEST_PLAIN_NAME])
        places = []
        for first in range(0, self.meta.parameters, _RUN):
            for place, record in enumerate(self.records(first, _RUN), first):
                if name_of(record).startswith(prefix):
                    places.append(place)
        return places

    def irregular(self) -> list[int]:
        """See `Store.irregular`."""
        with self._cursor() as cursor:
            if not cursor.set_range(IRREGULAR):
                return []
            keys = list(cursor.iternext(keys=True, values=False))
        return [self._place(key[1:]) for key in keys if key[:1] == IRREGULAR]

    def _in_range(self, start: bytes) -> list[int]:
        places = []
        with self._cursor() as cursor:
            if cursor.set_range(start):
                for key, place in cursor:
                    if not key.startswith(start):
                        break
                    places.append(self._place(place))
        return sorted(places)

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

    def _opened(self, key: bytes, stored: bytes) -> bytes:
        value = self._codec.open(key, stored)
        if value is None:
            raise self._damaged()
        return value

    def _lmdb(self) -> lmdb.Environment:
        if self._shared is None:
            raise ClosedCheckpoint(f"the index {self._path} was closed")
        if self._shared.process != os.getpid():
            self._reopen()
        return self._shared.lmdb

    def _reopen(self) -> None:
        inherited = self._shared
        try:
            self._shared = _environment(self._path)
            if self._get(FACTS) == self._facts:
                return
        except (OSError, BadRecord, StaleIndex, lmdb.Error):
            pass
        self._shared = inherited  # closed in this process, so that the next call comes to this place again
        raise StaleIndex("the index was replaced or removed before this process was forked; open the checkpoint again")

    def _place(self, data: bytes) -> int:
        if len(data) != PLACE.size:
            raise self._damaged()
        place = int.from_bytes(data, "big")
        if place >= self.meta.parameters:
            raise self._damaged()
        return place

    def _damaged(self) -> StaleIndex:
        return StaleIndex("the index is damaged; delete it or rebuild it (lazyckpt index --force)", file=self._path)
