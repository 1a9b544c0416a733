"""`Sidecar`: a store over one LMDB file, written once and shared read-only by processes.

A store opens the file for itself and reads it with `pread` (`lmdb_pages`, `lmdb_tree`): there is no lock file, and no
state by which threads or a forked child could block each other. An open store keeps reading the same file when another
file replaces it at its path. LMDB's own library only writes sidecars: it is fast, but it trusts its files. Here every
page is checked whenever it is read from the disk.

    of 1,000,000 names                        LMDB's library     here
    open, and look one up                     39 us              33 us
    look one up: in pages read before, in any    0.3 us, 3.2 us     2.5 us, 11 us
    all records                               0.21 s             0.29 s

If a sidecar is found damaged when it is opened (its tail, its metadata), the caller builds it again. Damage that is
found later, in a page that was not read before, is an error, and `stored` then builds a new index.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import islice
from typing import Final

from lazyckpt.errors import ChangedFile, ClosedCheckpoint, StaleIndex
from lazyckpt.index.footer import read_footer
from lazyckpt.index.lmdb_pages import Pages
from lazyckpt.index.lmdb_tree import OUTSIDE, Leaf, Tree
from lazyckpt.index.records import BadRecord, NameStarts, OddRecord, names_of
from lazyckpt.index.schema import (
    FRAMES,
    IRREGULAR,
    LONGEST_PLAIN_NAME,
    NAMES,
    ORDINAL,
    PLAIN_CODEC,
    RECORD_KEY,
    RECORDS,
    Codec,
    record_key,
)

_RUN: Final = 4096  # records of a sealed index opened at once
_FAULTS: Final = (BadRecord, ChangedFile, OSError, *OUTSIDE)
_SMALLEST_NODE: Final = 10  # bytes of a key and its value in a page


class Sidecar:
    """A store over a finished LMDB file."""

    def __init__(self, path: str) -> None:
        """Open an index. Cost: one open, and one read of 4 KiB.

        A sealed one must be given its codec (`unlock`) before its records can be read.

        Raises:
            BadRecord: it is damaged, foreign, or another version's.
            OSError: it is not there, or may not be read.
        """
        self.path: str | None = path
        self._path = path
        self._codec: Codec = PLAIN_CODEC
        pages = Pages(path)
        root, self.meta = read_footer(pages.summary)
        tree = Tree(pages, root)
        extra = tree.entries - 2 * self.meta.parameters - self.meta.irregular
        if extra not in (1, 2) or tree.entries * _SMALLEST_NODE > pages.page_size * pages.count:
            raise BadRecord("its facts are not of this tree")
        self._tree: Tree | None = tree

    @property
    def in_place(self) -> bool:
        """Whether its path still leads to this file."""
        tree = self._tree
        return tree is not None and tree.pages.is_at(self._path)

    def unlock(self, codec: Codec) -> None:
        """Give a sealed index its codec."""
        self._codec = codec

    def close(self) -> None:
        """Release the file; it is closed when the last reader is done."""
        self._tree = None

    def frames(self, codec: Codec) -> bytes | None:
        """The table of frames of an encrypted file, which is sealed even where records are not.

        Returns:
            None if there is none, or if it was sealed with another key.
        """
        stored = self._get(FRAMES)
        return None if stored is None else codec.unseal(FRAMES, stored)

    def position(self, name: str) -> int | None:
        """See `Store.position`."""
        try:
            raw = name.encode()
        except UnicodeEncodeError:
            return None
        # The usual key is made here, because a call of the codec would be a large part of a look-up.
        is_short = self._codec.in_name_order and len(raw) <= LONGEST_PLAIN_NAME
        ordinal = self._get(NAMES + raw if is_short else self._codec.name_key(raw))
        return None if ordinal is None else self._ordinal(ordinal)

    def record(self, position: int) -> bytes:
        """See `Store.record`."""
        key = RECORD_KEY.pack(RECORDS, position)
        record = self._get(key)
        if record is None:
            raise self._damaged(f"there is no record {position}")
        return self._opened(key, record) if self._codec.can_seal else record

    def records(self, first: int, count: int) -> list[bytes]:
        """See `Store.records`."""
        stored: list[bytes] = []
        with self._read() as tree:
            for leaf, number, last in self._leaves(tree, first, count):
                stored += tree.values(leaf, number, last, RECORD_KEY.size)
        if not self._codec.can_seal:
            return stored
        return [self._opened(record_key(ordinal), record) for ordinal, record in enumerate(stored, first)]

    def names(self, first: int, count: int) -> list[str]:
        """See `Store.names`."""
        if self._codec.can_seal:
            return self._named(self.records(first, count))
        names, starts = list[str](), NameStarts()
        with self._read() as tree:
            for leaf, number, last in self._leaves(tree, first, count):
                try:
                    found = tree.texts(leaf, number, last, RECORD_KEY.size, starts)
                except OddRecord:
                    found = None
                names += found or self._named(tree.values(leaf, number, last, RECORD_KEY.size))
        return names

    def with_prefix(self, prefix: str) -> list[int]:
        """See `Store.with_prefix`; a sealed index decrypts every record."""
        if self._codec.in_name_order:
            return sorted(self._starting(prefix))
        ordinals = []
        for first in range(0, self.meta.parameters, _RUN):
            records = self.records(first, _RUN)
            ordinals += [ordinal for ordinal, name in enumerate(self._named(records), first) if name.startswith(prefix)]
        return ordinals

    def some_with_prefix(self, prefix: str, most: int) -> list[int]:
        """See `Store.some_with_prefix`."""
        return self._starting(prefix, most) if self._codec.in_name_order else []

    def irregular(self) -> list[int]:
        """See `Store.irregular`."""
        with self._read() as tree:
            return [self._ordinal(leaf.key(number)[1:]) for leaf, number in _starting(tree, IRREGULAR)]

    def _starting(self, prefix: str, most: int | None = None) -> list[int]:
        """The ordinals of names with a prefix, in the order of the names; of an index in name order."""
        start = self._codec.name_key(prefix.encode(errors="surrogatepass"))[: 1 + LONGEST_PLAIN_NAME]
        with self._read() as tree:
            found = islice(_starting(tree, start), most)
            return [self._ordinal(tree.value(leaf, number)) for leaf, number in found]

    def _leaves(self, tree: Tree, first: int, count: int) -> Iterator[tuple[Leaf, int, int]]:
        """The leaves of up to `count` records from ordinal `first` on, each with its range of nodes."""
        stop = min(first + count, self.meta.parameters)
        for leaf, number in tree.leaves(record_key(first)) if first < stop else ():
            last = min(number + stop - first, len(leaf.nodes))
            ends = record_key(first), record_key(first + last - number - 1)
            if last <= number or (leaf.key(number), leaf.key(last - 1)) != ends:
                raise BadRecord("records are missing")
            yield leaf, number, last
            first += last - number
            if first == stop:
                return

    def _named(self, records: list[bytes]) -> list[str]:
        with self._read():
            return names_of(records)

    def _get(self, key: bytes) -> bytes | None:
        tree = self._tree  # another thread may close the store meanwhile
        if tree is None:
            raise self._closed()
        try:
            return tree.get(key)
        except _FAULTS as error:
            raise self._damaged(str(error)) from error

    @contextlib.contextmanager
    def _read(self) -> Iterator[Tree]:
        """The tree, for reading; errors in it are raised as errors of the index.

        Raises:
            ClosedCheckpoint: the store was closed.
            StaleIndex: the file is damaged, or cannot be read.
        """
        tree = self._tree
        if tree is None:
            raise self._closed()
        try:
            yield tree
        except _FAULTS as error:
            raise self._damaged(str(error)) from error

    def _opened(self, key: bytes, stored: bytes) -> bytes:
        value = self._codec.unseal(key, stored)
        if value is None:
            raise self._damaged("a record was not sealed with this key")
        return value

    def _ordinal(self, data: bytes) -> int:
        ordinal = int.from_bytes(data, "big")
        if len(data) != ORDINAL.size or ordinal >= self.meta.parameters:
            raise self._damaged("a name has no ordinal")
        return ordinal

    def _closed(self) -> ClosedCheckpoint:
        return ClosedCheckpoint(f"the index {self._path} was closed")

    def _damaged(self, why: str) -> StaleIndex:
        return StaleIndex(
            f"the index is damaged ({why}); delete it or rebuild it (lazyckpt index --force)", file=self._path
        )


def _starting(tree: Tree, start: bytes) -> Iterator[tuple[Leaf, int]]:
    """The nodes whose keys begin with `start`."""
    last = b""
    for leaf, first in tree.leaves(start):
        for number in range(first, len(leaf.nodes)):
            key = leaf.key(number)
            if not key.startswith(start):
                return
            if key <= last:
                raise BadRecord("keys are out of order")
            yield leaf, number
            last = key
