"""`Store`: the protocol of index storage, with the store in memory and the common rules.

A parameter's ordinal is its number in file order (0, 1, 2, …). If several parameters have one name, the value of the
last has the ordinal of the first, as in the dict that MindSpore returns.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final, Protocol, TypeGuard, cast

from lazyckpt.index.footer import Meta
from lazyckpt.index.records import encode, encode_plain, encode_run, names_of
from lazyckpt.model.entry import REFUSED, TENSOR, Entry, Plain, entry_of

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
        ordinals: name in UTF-8 -> ordinal.
        irregular: ordinals of parameters to decode before they are loaded by name.
    """

    def __init__(self) -> None:
        self.ordinals: dict[bytes, int] = {}
        self.irregular: set[int] = set()

    def records(self, entries: Iterable[Plain | Entry]) -> list[tuple[int, bytes]]:
        """(ordinal, record) of each entry; an ordinal comes again when a name does."""
        run = list(entries)
        if not _is_regular(run):
            return list(map(self._record, run))
        ordinals = self.ordinals
        numbers = [ordinals.setdefault(found[0], len(ordinals)) for found in run]
        self.irregular.difference_update(numbers)
        return list(zip(numbers, encode_run(run), strict=True))

    def _record(self, found: Plain | Entry) -> tuple[int, bytes]:
        if isinstance(found, Plain):
            name, record = found[0], encode_plain(found)
        else:
            name = found[0].encode()
            record = encode(found, name)
        ordinal = self.ordinals.setdefault(name, len(self.ordinals))
        (self.irregular.add if _is_irregular(entry_of(found)) else self.irregular.discard)(ordinal)
        return ordinal, record


def _is_regular(run: list[Plain | Entry]) -> TypeGuard[list[Plain]]:
    """Whether all are plain tensors with ordinary names."""
    if set(map(type, run)) - {Plain}:
        return False
    names = [found[0] for found in cast("list[Plain]", run)]
    return _MARK not in b"".join(names) and max(map(len, names), default=0) <= MAX_PARAMETER_NAME


def name_fault(name: str, kind: str) -> str:
    """Why nothing of a kind is loaded from a `.ckpt` by this name; an empty string if it is.

    Writers refuse such names, too.
    """
    if kind == TENSOR and len(name) > MAX_PARAMETER_NAME:
        return f"its name has {len(name):,} characters, a Parameter's has at most {MAX_PARAMETER_NAME:,}"
    return ""


def _is_irregular(entry: Entry) -> bool:
    if entry.kind == REFUSED:
        return True
    if entry.apart:  # MindSpore's Parameters of a safetensors file have no names
        return False
    return PARAM_KEY_MARK in entry.name or bool(name_fault(entry.name, entry.kind))


class MemoryStore:
    """A store in memory."""

    path = None

    def __init__(self, entries: Iterable[Plain | Entry], facts: Meta) -> None:
        deduplicator = Deduplicator()
        self._records: list[bytes] = []
        entries = iter(entries)
        while batch := list(islice(entries, _BATCH)):
            for ordinal, record in deduplicator.records(batch):
                if ordinal == len(self._records):
                    self._records.append(record)
                else:
                    self._records[ordinal] = record
        self._ordinals = deduplicator.ordinals
        self._irregular = sorted(deduplicator.irregular)
        self.meta = facts._replace(parameters=len(self._ordinals), irregular=len(self._irregular))

    def position(self, name: str) -> int | None:
        """See `Store.position`."""
        try:
            return self._ordinals.get(name.encode())
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
        return names_of(self.records(first, count))

    def with_prefix(self, prefix: str) -> list[int]:
        """See `Store.with_prefix` (here a walk over all names)."""
        start = prefix.encode(errors="surrogatepass")
        return [ordinal for name, ordinal in self._ordinals.items() if name.startswith(start)]

    def some_with_prefix(self, prefix: str, most: int) -> list[int]:
        """See `Store.some_with_prefix`."""
        del prefix, most
        return []

    def irregular(self) -> list[int]:
        """See `Store.irregular`."""
        return self._irregular

    def close(self) -> None:
        """Do nothing: no file is open."""
