"""Runs of small adjacent tensors, handled together with a few numpy calls.

Strategy: layers repeat, so a checkpoint has many small tensors that are adjacent in the file. Such a run of bytes is a
`TensorRun`. Within it, tensors with the same dtype, shape, header length and name length form a `UniformGroup`: they
differ in their offsets and names only. A group keeps the common facts once, and the offsets and names as lists. numpy
then gathers all headers of a group as the rows of one array, for one comparison, and all contents as the rows of
another, for one copy. Everything here is what the index claims; the format verifies it before a value is returned.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from lazyckpt.model.dtypes import DType
from lazyckpt.model.entry import TENSOR, Entry, Extent, is_plain

SMALL: Final = 2**14  # bytes, header included; up to this size, copying costs less than the calls to read one value
LONGEST: Final = 2**20  # bytes of one run
FEWEST: Final = 8  # tensors in a group; for fewer, the numpy calls cost more than they save
Common = tuple[DType, tuple[int, ...], int, int]  # dtype, shape, header length, content length
_Facts = tuple[DType | None, tuple[int, ...], int, int, int, int]  # the same, bytes after the content, name length
_K = TypeVar("_K")
_Rows = npt.NDArray[np.uint8]


class UniformGroup(NamedTuple):
    """A group of small tensors of one run that differ only in name and offset.

    Attributes:
        dtype: the dtype of every tensor.
        shape: the shape of every tensor.
        header: bytes from the start of a tensor to its content.
        length: bytes of a content; a tensor ends with its content.
        numbers: the index of each tensor in the run.
        names: the names in UTF-8, all of one length.
        starts: the offset of each tensor in the file.
    """

    dtype: DType
    shape: tuple[int, ...]
    header: int
    length: int
    numbers: list[int]
    names: list[bytes]
    starts: list[int]

    def entries(self) -> dict[int, Entry]:
        """The entries of the tensors, by number."""
        return {
            number: Entry(
                str(name, "utf-8"), TENSOR, self.dtype, self.shape, (Extent(start + self.header, self.length),),
                start, start + self.header + self.length,
            )
            for number, name, start in zip(self.numbers, self.names, self.starts, strict=True)
        }  # fmt: skip

    def headers(self, run: memoryview, base: int) -> _Rows | None:
        """The headers as the rows of an array.

        Args:
            run: bytes of the file.
            base: the offset of these bytes in the file.

        Returns:
            The rows; None if a tensor does not lie inside `run`.
        """
        return self._rows(run, base, 0, self.header)

    def contents(self, run: memoryview, base: int) -> npt.NDArray[Any] | None:
        """The values, copied into an array of shape (count, *shape). Arguments and None: see `headers`."""
        rows = self._rows(run, base, self.header, self.length)
        return None if rows is None else rows.view(self.dtype.numpy).reshape(-1, *self.shape)

    def _rows(self, run: memoryview, base: int, skip: int, width: int) -> _Rows | None:
        last = base + run.nbytes - self.header - self.length
        if min(self.header, self.length) <= 0 or min(self.starts) < base or max(self.starts) > last:
            return None
        windows: _Rows = np.ndarray((run.nbytes - width + 1, width), np.uint8, run, 0, (1, 1))
        rows: _Rows = windows[np.array(self.starts) + (skip - base)]
        return rows


class TensorRun(NamedTuple):
    """A run of small tensors that are adjacent in the file.

    Attributes:
        start: the offset of the first tensor.
        stop: the offset after the last tensor.
        names: the names in file order; the index of a tensor here is its number.
        groups: groups of uniform tensors, each of at least `FEWEST`.
        others: the other tensors, by number.
    """

    start: int
    stop: int
    names: list[str]
    groups: list[UniformGroup]
    others: dict[int, Entry]

    @property
    def stored(self) -> int:
        """Bytes of all contents together."""
        return sum(self.sizes())

    def sizes(self) -> list[int]:
        """Bytes of each content."""
        sizes = dict.fromkeys(range(len(self.names)), 0)
        for uniform in self.groups:
            sizes.update(dict.fromkeys(uniform.numbers, uniform.length))
        sizes.update((number, entry.stored) for number, entry in self.others.items())
        return list(sizes.values())


def tensor_run(
    names: list[bytes],
    starts: list[int],
    stop: int,
    groups: Mapping[_K, list[int]],
    common: Callable[[_K], Common | None],
    entry: Callable[[int], Entry],
) -> TensorRun:
    """Build a run from tensors that have been grouped.

    Args:
        names: the names of the tensors, in UTF-8.
        starts: the offset of each tensor.
        stop: the offset after the last tensor.
        groups: the numbers of the tensors of each group, by any key.
        common: the common facts of a group, by its key; None if its tensors cannot be handled together.
        entry: the entry of a tensor, by its number.

    Raises:
        UnicodeDecodeError: a name is not UTF-8.
    """
    made, others = list[UniformGroup](), dict[int, Entry]()
    for key, numbers in groups.items():
        said = common(key) if len(numbers) >= FEWEST else None
        if said is None:
            others.update((number, entry(number)) for number in numbers)
        else:
            made.append(UniformGroup(*said, numbers, [names[n] for n in numbers], [starts[n] for n in numbers]))
    return TensorRun(starts[0], stop, [name.decode() for name in names], made, others)


def common_of(dtype: DType | None, shape: tuple[int, ...], header: int, length: int) -> Common | None:
    """The common facts of a group; None if contents are empty, widened, packed or headerless."""
    if dtype is None or dtype.is_packed or header <= 0 or min(shape, default=1) <= 0:
        return None
    return (dtype, shape, header, length) if length == math.prod(shape) * dtype.itemsize else None


def run_of(entries: list[Entry]) -> TensorRun:
    """The run of entries that are adjacent in this order; each is small and has one extent."""
    names, groups = [entry.name.encode() for entry in entries], defaultdict[_Facts, list[int]](list)
    for number, (name, entry) in enumerate(zip(names, entries, strict=True)):
        _, _, dtype, shape, ((offset, length),), start, stop = entry[:7]
        groups[dtype, shape, offset - start, length, stop - offset - length, len(name)].append(number)
    starts = [entry.start for entry in entries]
    return tensor_run(names, starts, entries[-1].stop, groups, _common, entries.__getitem__)


def _common(facts: _Facts) -> Common | None:
    return None if facts[4] else common_of(*facts[:4])


def neighbours(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Split entries, in order, into lists of small adjacent tensors, and single entries.

    The bytes of a list, headers included, are one run of at most `LONGEST` bytes. The entries are not verified here.
    """
    group: list[Entry] = []
    for entry in entries:
        if group and not (
            _may_share(entry) and entry.start == group[-1].stop and entry.stop - group[0].start <= LONGEST
        ):
            yield group
            group = []
        group.append(entry)
        if len(group) == 1 and not _may_share(entry):
            yield group
            group = []
    if group:
        yield group


def _may_share(entry: Entry) -> bool:
    """Whether a value is small and its bytes need only be copied (no digest, no conversion)."""
    small = entry.stop - entry.start <= SMALL and entry.dtype is not None and len(entry.extents) == 1
    return small and not entry.apart and not entry.digest and is_plain(entry)
