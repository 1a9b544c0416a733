"""`Store`: the protocol of index storage, with the store in memory and the common rules.

A parameter's ordinal is its number in file order (0, 1, 2, …). If several parameters have one name, the value of the
last has the ordinal of the first, as in the dict that MindSpore returns.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final, Protocol, TypeGuard

import numpy as np

from lazyckpt.index.footer import Meta
from lazyckpt.index.name_table import ByteStrings, NameTable
from lazyckpt.index.records import encode, encode_packed, encode_plain, encode_run
from lazyckpt.model.entry import REFUSED, TENSOR, Found, Packed, Plain

PARAM_KEY_MARK: Final = ".__param_key__"  # MindSpore renames such parameters after loading
MAX_PARAMETER_NAME: Final = 1024  # characters; the limit of mindspore.Parameter, not of the format
_MARK: Final = PARAM_KEY_MARK.encode()
_BATCH: Final = 4096  # entries whose records are made at once


class Store(Protocol):
    """The records of an index, by ordinal and by name."""

    @property
    def meta(self) -> Meta:
        """The metadata of the index."""

    @property
    def path(self) -> str | None:
        """The sidecar's path, or None when it is in memory."""

    def position(self, name: str) -> int | None:
        """The ordinal of a name, or None. O(log n)."""

    def record(self, position: int) -> bytes:
        """The record at an ordinal (0 <= position < count). O(log n)."""

    def records(self, first: int, count: int) -> list[bytes]:
        """Up to `count` records from ordinal `first` on, in file order."""

    def names(self, first: int, count: int) -> list[str]:
        """The names of those records."""

    def with_prefix(self, prefix: str) -> list[int]:
        """The ordinals of all names with a prefix, ascending. O(log n + matches).

        A prefix of more than 400 bytes may also give names that share only its first 400.
        """

    def some_with_prefix(self, prefix: str, most: int) -> list[int]:
        """Up to `most` of these ordinals, in any order; none where that would cost a walk."""

    def irregular(self) -> list[int]:
        """The ordinals of parameters to decode before they are loaded by name, ascending."""

    def close(self) -> None:
        """Release the file, if there is one."""


class Deduplicator:
    """Assigns ordinals to names, as entries arrive.

    Attributes:
        names: the names in UTF-8, and their ordinals.
    """

    def __init__(self) -> None:
        self.names = NameTable()
        self._irregular = bytearray()  # 1 for a parameter to decode before it is loaded by name

    @property
    def irregular(self) -> list[int]:
        """The ordinals of parameters to decode before they are loaded by name, ascending."""
        ordinals: list[int] = np.flatnonzero(np.frombuffer(self._irregular, np.uint8)).tolist()
        return ordinals

    def records(self, entries: Iterable[Found]) -> list[tuple[int, bytes]]:
        """(ordinal, record) of each entry; an ordinal comes again when a name does."""
        run = list(entries)
        names = [found[0] if isinstance(found[0], bytes) else found[0].encode() for found in run]
        known = len(self.names)
        ordinals = self.names.add(names)
        self._note_irregular(run, names, ordinals, len(self.names) - known)
        records = encode_run(run) if _are_plain(run) else list(map(_record, run))
        return list(zip(ordinals, records, strict=True))

    def _note_irregular(self, run: list[Found], names: list[bytes], ordinals: list[int], new: int) -> None:
        self._irregular += bytes(new)
        flags: Iterable[bool]
        if _MARK in b"".join(names) or max(map(len, names), default=0) > MAX_PARAMETER_NAME:
            flags = map(_is_irregular, run, names)
        elif not _are_plain(run):
            flags = [type(found) is not Plain and found[1] == REFUSED for found in run]
        elif new < len(run):
            flags = [False] * len(run)
        else:
            return
        # Of a name that comes again, the last flag counts: numpy assigns in order.
        np.frombuffer(self._irregular, np.uint8)[ordinals] = list(flags)


def _record(found: Found) -> bytes:
    if isinstance(found, Plain):
        return encode_plain(found)
    return encode_packed(found) if isinstance(found, Packed) else encode(found, found[0].encode())


def name_fault(name: str, kind: str) -> str:
    """Why nothing of a kind is loaded from a `.ckpt` by this name; an empty string if it is.

    Writers refuse such names, too.
    """
    if kind == TENSOR and len(name) > MAX_PARAMETER_NAME:
        return f"its name has {len(name):,} characters, a Parameter's has at most {MAX_PARAMETER_NAME:,}"
    return ""


def _are_plain(run: list[Found]) -> TypeGuard[list[Plain]]:
    return not set(map(type, run)) - {Plain}


def _is_irregular(found: Found, name: bytes) -> bool:
    kind = TENSOR if isinstance(found, Plain) else found.kind
    if kind == REFUSED:
        return True
    if not isinstance(found, Packed) and found.apart:  # MindSpore's Parameters of a safetensors file have no names
        return False
    return _MARK in name or (len(name) > MAX_PARAMETER_NAME and bool(name_fault(name.decode(), kind)))


class MemoryStore:
    """A store in memory, in a few columns."""

    path = None

    def __init__(self, entries: Iterable[Found], facts: Meta) -> None:
        deduplicator = Deduplicator()
        self._records = ByteStrings()
        entries = iter(entries)
        while batch := list(islice(entries, _BATCH)):
            first = len(self._records)
            numbered = deduplicator.records(batch)
            if len(deduplicator.names) - first == len(numbered):  # all are new
                self._records.extend([record for _, record in numbered])
                continue
            latest = dict(numbered)
            self._records.extend([latest[ordinal] for ordinal in range(first, len(deduplicator.names))])
            for ordinal, record in latest.items():
                if ordinal < first:
                    self._records[ordinal] = record
        self._names = deduplicator.names
        self._irregular = deduplicator.irregular
        self.meta = facts._replace(parameters=len(self._names), irregular=len(self._irregular))

    def position(self, name: str) -> int | None:
        """See `Store.position`."""
        try:
            return self._names.get(name.encode())
        except UnicodeEncodeError:
            return None

    def record(self, position: int) -> bytes:
        """See `Store.record`."""
        return self._records[position]

    def records(self, first: int, count: int) -> list[bytes]:
        """See `Store.records`."""
        return self._records[first : first + count]

    def names(self, first: int, count: int) -> list[str]:
        """See `Store.names`."""
        return [name.decode() for name in self._names.names[first : first + count]]

    def with_prefix(self, prefix: str) -> list[int]:
        """See `Store.with_prefix` (here a walk over all names)."""
        start = prefix.encode(errors="surrogatepass")
        return [ordinal for ordinal, name in enumerate(self._names) if name.startswith(start)]

    def some_with_prefix(self, prefix: str, most: int) -> list[int]:
        """See `Store.some_with_prefix`."""
        del prefix, most
        return []

    def irregular(self) -> list[int]:
        """See `Store.irregular`."""
        return self._irregular

    def close(self) -> None:
        """Do nothing: no file is open."""
