"""Runs of small neighbouring tensors, handled hundreds at a time because layers repeat.

Neighbours are one run of bytes, a `TensorRun`. Tensors of one dtype and shape whose headers and names have equal
lengths differ in offset and name only. A `UniformGroup` holds these as lists, and what is common once. Headers and
contents are then rows of one numpy array, compared, copied or measured with a few calls for the whole group. All of
this is what an index claims: nothing is handed out before the format has proven it.
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

SMALL: Final = 2**14  # bytes of a value, header included, that cost less than what it takes to read them alone
LONGEST: Final = 2**20  # bytes of a run
FEWEST: Final = 8  # tensors that are worth the calls of numpy
Common = tuple[DType, tuple[int, ...], int, int]  # dtype, shape, bytes of a header, bytes of a content
_Facts = tuple[DType | None, tuple[int, ...], int, int, int, int]  # the same, bytes behind a content, those of a name
_K = TypeVar("_K")
_Rows = npt.NDArray[np.uint8]


class UniformGroup(NamedTuple):
    """Tensors that differ in name and offset only.

    Attributes:
        dtype: of all of them.
        shape: of all of them.
        header: bytes from a tensor's start to its content.
        length: bytes of each content, which ends where the tensor ends.
        numbers: the ordinal of each in its run.
        names: in UTF-8, all of one length.
        starts: where each tensor begins in the file.
    """

    dtype: DType
    shape: tuple[int, ...]
    header: int
    length: int
    numbers: list[int]
    names: list[bytes]
    starts: list[int]

    def entries(self) -> dict[int, Entry]:
        """Each for itself, by its number."""
        return {
            number: Entry(
                str(name, "utf-8"), TENSOR, self.dtype, self.shape, (Extent(start + self.header, self.length),),
                start, start + self.header + self.length,
            )
            for number, name, start in zip(self.numbers, self.names, self.starts, strict=True)
        }  # fmt: skip

    def headers(self, run: memoryview, base: int) -> _Rows | None:
        """The bytes of each header, a row each.

        Args:
            run: bytes of the file.
            base: where they begin in the file.

        Returns:
            None if the tensors do not lie in the run.
        """
        return self._rows(run, base, 0, self.header)

    def contents(self, run: memoryview, base: int) -> npt.NDArray[Any] | None:
        """A copy of the values, of shape (how many, *shape); arguments and None as for `headers`."""
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
    """Small tensors that follow one another without a gap.

    Attributes:
        start: where they begin in the file.
        stop: where they end.
        names: theirs, in file order; a tensor's place here is its number.
        groups: those that are alike, `FEWEST` or more each.
        others: the rest, by number.
    """

    start: int
    stop: int
    names: list[str]
    groups: list[UniformGroup]
    others: dict[int, Entry]

    @property
    def stored(self) -> int:
        """Bytes of all contents."""
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
    """A run, put together from lists.

    Args:
        names: of its tensors, in UTF-8.
        starts: where each begins.
        stop: where the last ends.
        groups: the numbers of those that are alike, by anything.
        common: what they have in common, by the same; None if nothing can be said of all of them.
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
    """What tensors of these facts have in common; None if a content is empty, widened or packed, or has no header."""
    if dtype is None or dtype.is_packed or header <= 0 or min(shape, default=1) <= 0:
        return None
    return (dtype, shape, header, length) if length == math.prod(shape) * dtype.itemsize else None


def run_of(entries: list[Entry]) -> TensorRun:
    """The run that small tensors in one piece make which follow one another, in their order."""
    names, groups = [entry.name.encode() for entry in entries], defaultdict[_Facts, list[int]](list)
    for number, (name, entry) in enumerate(zip(names, entries, strict=True)):
        _, _, dtype, shape, ((offset, length),), start, stop = entry[:7]
        groups[dtype, shape, offset - start, length, stop - offset - length, len(name)].append(number)
    starts = [entry.start for entry in entries]
    return tensor_run(names, starts, entries[-1].stop, groups, _common, entries.__getitem__)


def _common(facts: _Facts) -> Common | None:
    return None if facts[4] else common_of(*facts[:4])


def neighbours(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Entries, in their order, in groups: small tensors that follow one another in the file without a gap, or one each.

    A group's bytes, headers included, are one run of at most `LONGEST`. Nothing has been proven of the entries.
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
    """Whether a value is small, and nothing is to be done with its bytes but to copy them."""
    small = entry.stop - entry.start <= SMALL and entry.dtype is not None and len(entry.extents) == 1
    return small and not entry.apart and not entry.digest and is_plain(entry)
