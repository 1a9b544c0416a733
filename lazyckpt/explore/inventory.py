"""What the headers of a checkpoint tell, gathered in one walk: how many values of which kind, and what is odd."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from typing import Final

from lazyckpt.errors import CorruptFile
from lazyckpt.formats.ckpt import trailer
from lazyckpt.formats.protobuf_wire import LENGTH, fields, read_varint
from lazyckpt.index.store import MAX_PARAMETER_NAME, PARAM_KEY_MARK
from lazyckpt.model.entry import REFUSED, TENSOR, Entry, Plain, entry_of
from lazyckpt.sources import Source
from lazyckpt.sources.window import as_buffer

ALIGNMENTS: Final = (4, 16, 64)  # bytes: a float's, SSE's, a cache line's
NAMED: Final = 5  # examples of each oddity that are kept
_MARK: Final = PARAM_KEY_MARK.encode()


class Some:
    """How many there are of something, and the first few of them."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, text: str) -> None:
        """One more."""
        self.count += 1
        if len(self.first) < NAMED:
            self.first.append(text)

    def __str__(self) -> str:
        more = f" and {self.count - len(self.first):,} more" if self.count > len(self.first) else ""
        return ", ".join(text if len(text) <= 200 else text[:200] + "…" for text in self.first) + more


class Contents:
    """What a walk over a file has found so far.

    Attributes:
        parameters: values, those that are replaced by a later one of their name counted.
        nbytes: their bytes in the file.
        dtypes: how many tensors there are of each dtype.
        kinds: how many values there are of each kind.
        aligned: how many tensors begin at a multiple of 4, 16 and 64 bytes.
        tensors: how many have any bytes.
        unowned: bytes between values that belong to none.
        stop: where the last value ends.
        last: its name.
        refused, replaced, long_names, marked: the oddities.
    """

    def __init__(self) -> None:
        self.parameters = self.nbytes = self.tensors = self.unowned = self.stop = 0
        self.dtypes: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.aligned: Counter[int] = Counter()
        self.last = ""
        self.refused, self.replaced, self.long_names, self.marked = Some(), Some(), Some(), Some()
        self._names: set[bytes] = set()

    def take(self, found: Iterable[Plain | Entry]) -> None:
        """Walk. What was found before an error is kept."""
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
                self._add(one.name.encode(), one.start, one.stop, one.stored, bool(one.apart))
                self.kinds[one.kind] += 1
                if one.dtype is not None:
                    self.dtypes[one.dtype.name] += 1
                    self._place(one.extents[0].offset if one.extents else 0, one.stored)
                self._look(one)

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


def last_whole(source: Source, stop: int, broken: int) -> int:
    """Where the last whole parameter before `broken` ends; `stop` is the end of one before it."""
    with contextlib.suppress(CorruptFile, IndexError):
        for field in fields(as_buffer(source), stop, trailer(source).body):
            if field.end > broken:
                break
            stop = field.end
    return stop


def missing_from(source: Source, start: int) -> int:
    """Bytes that the parameter at `start` announces and that are not there; 0 if that is unknown."""
    buffer = as_buffer(source)
    try:
        key, position = read_varint(buffer, start, source.size)
        length, begin = read_varint(buffer, position, source.size)
    except (CorruptFile, IndexError):
        return 0
    return max(0, begin + length - source.size) if key & 7 == LENGTH else 0
