"""`ShardReader`: whole tensors from boxes in many files. A read touches only the boxes it needs.

The boxes of a tensor are found by its name. They are entries of the concatenated files, and are read by a `FileReader`
(so they are proven, decrypted and checked as all entries are). A slice of the whole is cut into slices of boxes: along
each axis, an index or a range of the whole is an index or a range within a box.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from lazyckpt.errors import CorruptFile
from lazyckpt.index.open_file import OpenFile
from lazyckpt.model.entry import REFUSED, Entry
from lazyckpt.model.tensor_runs import TensorRun
from lazyckpt.reading.allocation import aligned
from lazyckpt.reading.correcting_reader import CorrectingReader
from lazyckpt.reading.decoding import dtype_of
from lazyckpt.reading.reader import PIECE, Proven, Reader
from lazyckpt.reading.slicing import Axis, picked
from lazyckpt.sharding.layout import Box
from lazyckpt.sharding.shard_index import ShardedIndex

AnyArray = npt.NDArray[Any]


class ShardReader(Reader):
    """Reads a checkpoint in which tensors may be cut into boxes. Safe for many threads."""

    def __init__(self, file: OpenFile) -> None:
        """Take the concatenated files, whose index is a `ShardedIndex`."""
        super().__init__(file)
        self._parts = CorrectingReader(file)  # reads entries of single files; this reader takes entries of whole values
        self._boxes = cast("ShardedIndex", file.index).boxes_of

    def view(self, entry: Entry) -> AnyArray:
        """See `Reader.view`: a view of a tensor in one box, else a new array."""
        boxes = self._found(entry)
        if not boxes:
            return self._parts.view(entry)
        return self._parts.view(boxes[0].entry) if len(boxes) == 1 else self.copy(entry)

    def copy(self, entry: Entry) -> AnyArray:
        """See `Reader.copy`."""
        boxes = self._found(entry)
        if not boxes:
            return self._parts.copy(entry)
        if len(boxes) == 1:
            return self._parts.copy(boxes[0].entry)
        made = aligned(entry.shape, dtype_of(entry))
        for box in boxes:
            target = made[_slices(box)]
            if not (target.flags.c_contiguous and self._parts.fill(box.entry, target)):
                target[...] = self._parts.copy(box.entry)
        return made

    def fill(self, entry: Entry, target: AnyArray) -> bool:
        """See `Reader.fill`."""
        boxes = self._found(entry)
        if not boxes:
            return self._parts.fill(entry, target)
        return len(boxes) == 1 and self._parts.fill(boxes[0].entry, target)

    def writable(self, entry: Entry) -> AnyArray:
        """See `Reader.writable`."""
        boxes = self._found(entry)
        if not boxes:
            return self._parts.writable(entry)
        return self._parts.writable(boxes[0].entry) if len(boxes) == 1 else self.copy(entry)

    def part(self, entry: Entry, key: Any) -> Any:
        """See `Reader.part`: reads only the needed slices of boxes."""
        boxes = self._found(entry)
        if not boxes:
            return self._parts.part(entry, key)
        if len(boxes) == 1:
            return self._parts.part(boxes[0].entry, key)
        found = picked(entry.shape, key)
        if found is None:
            return self.copy(entry)[key]
        answer = np.empty([len(axis) for axis in found.axes], dtype_of(entry).numpy)
        for box in boxes:
            ends = zip(found.axes, box.start, box.entry.shape, strict=True)
            met = [_meet(axis, begin, size) for axis, begin, size in ends]
            if all(len(positions) for positions, _ in met):
                there = _crossed([positions for positions, _ in met])
                answer[there] = self._parts.part(box.entry, tuple(inside for _, inside in met))
        shaped = answer.reshape(found.shape)
        return shaped[()] if found.is_scalar else shaped

    def value(self, entry: Entry) -> AnyArray | str | list[AnyArray]:
        """See `Reader.value`."""
        return self.copy(entry) if self._found(entry) else self._parts.value(entry)

    def values(self, entries: list[Entry]) -> list[AnyArray | str | list[AnyArray]]:
        """See `Reader.values`."""
        whole = [entry for entry in entries if not self._found(entry)]
        read = dict(zip((entry.name for entry in whole), self._parts.values(whole), strict=True))
        return [read[entry.name] if entry.name in read else self.copy(entry) for entry in entries]

    def piece_count(self, entry: Entry, size: int = PIECE) -> int:
        """See `Reader.piece_count`."""
        boxes = self._found(entry)
        if len(boxes) < 2:
            return self._parts.piece_count(boxes[0].entry if boxes else entry, size)
        return -(-entry.shape[0] // _rows(entry, size))

    def stored(self, entry: Entry, size: int = PIECE, first: int = 0, count: int | None = None) -> Iterator[memoryview]:
        """See `Reader.stored`: as if one file held the whole tensor. Pieces are whole rows."""
        boxes = self._found(entry)
        if len(boxes) < 2:
            yield from self._parts.stored(boxes[0].entry if boxes else entry, size, first, count)
            return
        step = _rows(entry, size)
        stop = entry.shape[0] if count is None else min(entry.shape[0], (first + count) * step)
        for start in range(first * step, stop, step):
            piece = np.ascontiguousarray(self.part(entry, slice(start, min(start + step, stop))))
            yield piece.reshape(-1).view(np.uint8).data

    def boxes(self, entry: Entry) -> tuple[tuple[tuple[int, ...], Entry], ...]:
        """See `Reader.boxes`: for a sharded tensor those of the ranks."""
        return self._found(entry) or self._parts.boxes(entry)

    def stored_at(self, entry: Entry, start: int, length: int) -> memoryview:
        """See `Reader.stored_at`."""
        return self._parts.stored_at(entry, start, length)

    def read_run(self, tensor_run: TensorRun) -> list[Any]:
        """See `Reader.read_run`."""
        return self._parts.read_run(tensor_run)

    def proven(self, tensor_run: TensorRun) -> Proven:
        """See `Reader.proven`."""
        return self._parts.proven(tensor_run)

    def drop_pages(self, tensor_run: TensorRun) -> None:
        """See `Reader.drop_pages`."""
        self._parts.drop_pages(tensor_run)

    def prove(self, entries: list[Entry]) -> None:
        """See `Reader.prove`."""
        self._parts.prove(entries)

    def samples(self, entries: list[Entry]) -> list[bytes]:
        """See `Reader.samples`. All slices of a value, in the order of its boxes."""
        parts = [[part for _, part in self.boxes(entry)] for entry in entries]
        found = iter(self._parts.samples([part for group in parts for part in group]))
        return [b"".join(next(found) for _ in group) for group in parts]

    def _found(self, entry: Entry) -> tuple[Box, ...]:
        if entry.kind == REFUSED:
            raise CorruptFile(entry.reason, parameter=entry.name, file=self.file.source.name)
        return self._boxes(entry.name)


def _rows(entry: Entry, size: int) -> int:
    """The number of rows in a piece of about `size` bytes."""
    return max(1, size // max(1, entry.nbytes // max(1, entry.shape[0])))


def _slices(box: Box) -> tuple[slice, ...]:
    return tuple(slice(begin, begin + size) for begin, size in zip(box.start, box.entry.shape, strict=True))


def _meet(axis: Axis, begin: int, size: int) -> tuple[range | npt.NDArray[np.int64], Any]:
    """The positions in the answer of the indexes inside a box, and their key within the box."""
    if not isinstance(axis, range):
        positions = np.flatnonzero((axis >= begin) & (axis < begin + size))
        return positions, axis[positions] - begin
    inside = _positions(axis, begin, begin + size)
    if not len(inside):
        return inside, slice(0, 0)
    first, last = axis[inside[0]] - begin, axis[inside[-1]] - begin
    stop: int | None = last + (1 if axis.step > 0 else -1)
    return inside, slice(first, None if stop is not None and stop < 0 else stop, axis.step)


def _positions(axis: range, low: int, high: int) -> range:
    """The positions of a range whose values are from `low` up to `high`."""
    if axis.step > 0:
        first = max(0, -((axis.start - low) // axis.step)) if axis.start < low else 0
        stop = max(0, -((axis.start - high) // axis.step))
    else:
        first = max(0, -((high - 1 - axis.start) // -axis.step)) if axis.start >= high else 0
        stop = max(0, -((low - 1 - axis.start) // -axis.step))
    return range(min(first, len(axis)), min(stop, len(axis)))


def _crossed(positions: list[range | npt.NDArray[np.int64]]) -> tuple[Any, ...]:
    """An index of the answer: ranges as slices, an array (only ever on the first axis) as it is."""
    return tuple(slice(where[0], where[-1] + 1) if isinstance(where, range) else where for where in positions)
