"""`Inventory`: counts by kind and dtype, and oddities, from one walk over the headers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from lazyckpt.errors import CorruptFile
from lazyckpt.formats.protobuf_wire import LENGTH, read_varint
from lazyckpt.index.store import MAX_PARAMETER_NAME, PARAM_KEY_MARK
from lazyckpt.model.entry import REFUSED, TENSOR, Entry, Found, Plain, entry_of
from lazyckpt.sources import Source
from lazyckpt.sources.window import as_buffer

ALIGNMENTS: Final = (4, 16, 64)  # bytes: of a float, an SSE register, a cache line
NAMED: Final = 5  # examples kept of each oddity
_MARK: Final = PARAM_KEY_MARK.encode()


class Sample:
    """A count, with the first few examples."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, text: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.first) < NAMED:
            self.first.append(text)

    def __str__(self) -> str:
        more = f" and {self.count - len(self.first):,} more" if self.count > len(self.first) else ""
        return ", ".join(text if len(text) <= 200 else text[:200] + "…" for text in self.first) + more


class Inventory:
    """Counts over the values that a walk has found so far.

    Attributes:
        parameters: number of values, including those that a later one of the same name replaces.
        nbytes: their bytes in the file.
        dtypes: number of tensors by dtype.
        kinds: number of values by kind.
        aligned: number of tensors that start at a multiple of 4, 16 and 64 bytes.
        tensors: number of tensors that are not empty.
        unowned: bytes between values that belong to none.
        stop: the end of the last value.
        last: the name of the last value.
        refused, replaced, long_names, marked: the oddities.
    """

    def __init__(self) -> None:
        self.parameters = self.nbytes = self.tensors = self.unowned = self.stop = 0
        self.dtypes: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.aligned: Counter[int] = Counter()
        self.last = ""
        self.refused, self.replaced, self.long_names, self.marked = Sample(), Sample(), Sample(), Sample()
        self._names: set[bytes] = set()

    def take(self, found: Iterable[Found]) -> None:
        """Count all values of a walk. Counts made before an error are kept."""
        for one in found:
            if isinstance(one, Plain):
                name, dtype, _, offset, length, start, stop, apart = one
                self._add(name, start, stop, length, bool(apart))
                self.kinds[TENSOR] += 1
                self.dtypes[dtype.name] += 1
                self._place(offset, length)
                if len(name) > MAX_PARAMETER_NAME or _MARK in name:
                    self._look(entry_of(one))
            else:
                entry = entry_of(one)
                self._add(entry.name.encode(), entry.start, entry.stop, entry.stored, bool(entry.apart))
                self.kinds[entry.kind] += 1
                if entry.dtype is not None:
                    self.dtypes[entry.dtype.name] += 1
                    self._place(entry.extents[0].offset if entry.extents else 0, entry.stored)
                self._look(entry)

    def _add(self, name: bytes, start: int, stop: int, length: int, apart: bool) -> None:
        self.parameters += 1
        self.nbytes += length
        self.last = name.decode()
        if not apart:
            self.unowned += max(0, start - self.stop)
            self.stop = stop
        if name in self._names:
            self.replaced.add(self.last)
        self._names.add(name)

    def _place(self, offset: int, length: int) -> None:
        if length:
            self.tensors += 1
            for alignment in ALIGNMENTS:
                self.aligned[alignment] += offset % alignment == 0

    def _look(self, entry: Entry) -> None:
        if entry.kind == REFUSED:
            self.refused.add(f"{entry.name!r} ({entry.reason})")
        elif PARAM_KEY_MARK in entry.name:
            self.marked.add(repr(entry.name))
        elif len(entry.name) > MAX_PARAMETER_NAME and entry.kind == TENSOR and not entry.apart:
            self.long_names.add(repr(entry.name[:80]) + "…")


def missing_from(source: Source, start: int) -> int:
    """The number of bytes missing from the parameter at `start`; 0 if unknown."""
    buffer = as_buffer(source)
    try:
        key, position = read_varint(buffer, start, source.size)
        length, begin = read_varint(buffer, position, source.size)
    except (CorruptFile, IndexError):
        return 0
    return max(0, begin + length - source.size) if key & 7 == LENGTH else 0
