"""Names and their ordinals in a few columns, where a dict would take two hundred bytes for a name of three.

A file of a few megabytes may hold a million names. `ByteStrings` keeps strings end to end in one buffer; `NameTable`
is a hash table over them whose slots are 32-bit ordinals. Thousands of names are looked up together with a few numpy
calls, which costs no more than a dict does.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress
from typing import Any, Final, overload

import numpy as np
import numpy.typing as npt

_SMALLEST: Final = 2**10  # slots
_CHUNK: Final = 2**16  # names placed at once when the table grows
_Numbers = npt.NDArray[np.int64]


class ByteStrings(Sequence[bytes]):
    """A list of byte strings in one buffer."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._starts, self._lengths = array("Q"), array("I")

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, number: int) -> bytes: ...
    @overload
    def __getitem__(self, number: slice) -> list[bytes]: ...
    def __getitem__(self, number: int | slice) -> bytes | list[bytes]:
        """One string, or those of a range as a list."""
        if isinstance(number, slice):
            data = self._data
            return [
                bytes(data[start : start + length])
                for start, length in zip(self._starts[number], self._lengths[number], strict=True)
            ]
        start = self._starts[number]
        return bytes(self._data[start : start + self._lengths[number]])

    def __setitem__(self, number: int, string: bytes) -> None:
        """Replace a string; the room of the old one is lost."""
        self._starts[number], self._lengths[number] = len(self._data), len(string)
        self._data += string

    def extend(self, strings: list[bytes]) -> None:
        """Append strings."""
        lengths = np.fromiter(map(len, strings), np.uint32, len(strings))
        starts = np.cumsum(lengths, dtype=np.uint64) + np.uint64(len(self._data)) - lengths
        self._data += b"".join(strings)
        self._starts.frombytes(starts.astype(np.uint64).tobytes())
        self._lengths.frombytes(lengths.tobytes())


class NameTable:
    """Names (bytes) and their ordinals, in the order in which they came first. Names are never removed."""

    def __init__(self) -> None:
        self.names = ByteStrings()
        self._hashes = array("q")
        self._slots: npt.NDArray[np.uint32] = np.zeros(_SMALLEST, np.uint32)  # ordinal + 1, or 0

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[bytes]:
        for first in range(0, len(self), _CHUNK):
            yield from self.names[first : first + _CHUNK]

    def get(self, name: bytes) -> int | None:
        """The ordinal of a name, or None."""
        slots, mask = self._slots, len(self._slots) - 1
        slot = hash(name) & mask
        while occupant := int(slots[slot]):
            if self.names[occupant - 1] == name:
                return occupant - 1
            slot = (slot + 1) & mask
        return None

    def ordinals(self, names: list[bytes]) -> list[int]:
        """The ordinals of names that are in the table."""
        found: list[int] = self._find(names, _hashes_of(names)).tolist()
        return found

    def add(self, names: list[bytes]) -> list[int]:
        """The ordinals of names, of which the new ones get the next."""
        distinct = names
        unique = dict.fromkeys(names)
        if len(unique) < len(names):
            distinct = list(unique)
        hashes = _hashes_of(distinct)
        found = self._find(distinct, hashes)
        is_new = found < 0
        count = int(np.count_nonzero(is_new))
        first = len(self)
        if count == len(names):
            self._append(names, hashes)
            return list(range(first, first + count))
        self._append(list(compress(distinct, is_new.tolist())), hashes[is_new])
        found[is_new] = np.arange(first, first + count)
        ordinals: list[int] = found.tolist()
        if distinct is names:
            return ordinals
        return list(map(dict(zip(distinct, ordinals, strict=True)).__getitem__, names))

    def _find(self, names: list[bytes], hashes: _Numbers) -> _Numbers:
        """The ordinal of each name, -1 if it is new. Probes all names at once, slot by slot."""
        found = np.full(len(names), -1, np.int64)
        if not len(self):
            return found
        mask = len(self._slots) - 1
        known = np.frombuffer(self._hashes, np.int64)
        active, slots = np.arange(len(names)), hashes & mask
        while active.size:
            occupants = self._slots[slots].astype(np.int64) - 1
            taken = occupants >= 0
            active, slots, occupants = active[taken], slots[taken], occupants[taken]
            alike = known[occupants] == hashes[active]
            if alike.any():
                for number, ordinal in zip(active[alike].tolist(), occupants[alike].tolist(), strict=True):
                    if self.names[ordinal] == names[number]:
                        found[number] = ordinal
                open_ones = found[active] < 0
                active, slots = active[open_ones], slots[open_ones]
            slots = (slots + 1) & mask
        return found

    def _append(self, names: list[bytes], hashes: _Numbers) -> None:
        first = len(self)
        self.names.extend(names)
        self._hashes.frombytes(hashes.tobytes())
        if 2 * len(self) <= len(self._slots):
            self._place(hashes, first)
            return
        size = len(self._slots)
        while 2 * len(self) > size:
            size *= 2
        del self._slots
        self._slots = np.zeros(size, np.uint32)
        for first in range(0, len(self), _CHUNK):
            self._place(np.frombuffer(self._hashes[first : first + _CHUNK], np.int64), first)

    def _place(self, hashes: _Numbers, first: int) -> None:
        """Put names that are not in the table into free slots. Where several want one slot, one of them gets it."""
        table, mask = self._slots, len(self._slots) - 1
        slots, occupants = hashes & mask, np.arange(first + 1, first + 1 + len(hashes), dtype=np.uint32)
        while slots.size:
            free = table[slots] == 0
            table[slots[free]] = occupants[free]
            left = table[slots] != occupants
            slots, occupants = (slots[left] + 1) & mask, occupants[left]


def _hashes_of(names: Iterable[bytes]) -> _Numbers:
    hashes: npt.NDArray[Any] = np.fromiter(map(hash, names), np.int64)
    return hashes
