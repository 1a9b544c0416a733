"""The box of a tensor that each rank holds. Pure functions of a `strategy.Layout`.

Every shard is a box of the whole tensor. Device axes that cut no axis of the tensor make copies: ranks with equal
coordinates on all other axes hold the same box, and any of them can be read.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from lazyckpt.model.entry import Entry
from lazyckpt.sharding.strategy import MOST_RANKS, Layout, Strategy

_SHOWN: Final = 5  # numbers in a message


class Partition(NamedTuple):
    """The partition of a tensor, as a formula whose size is independent of the number of ranks.

    Attributes:
        parts: number of parts along each axis.
        devices: the device matrix.
        axes: for each axis of the tensor the device axes that cut it, counted from the left.
        spare: the device axes that make copies.
        again: number of parts into which the optimizer cuts each part of the first axis, among copies.
    """

    parts: tuple[int, ...]
    devices: tuple[int, ...]
    axes: tuple[tuple[int, ...], ...]
    spare: tuple[int, ...]
    again: int

    def part_of(self, local: int) -> tuple[int, ...]:
        """The part of a local rank: its number along each axis."""
        coordinates = _digits(local, self.devices)
        part = [_number(which, self.devices, coordinates) for which in self.axes]
        if self.again > 1:
            part[0] = part[0] * self.again + _number(self.spare, self.devices, coordinates) % self.again
        return tuple(part)

    def holders_of(self, part: tuple[int, ...]) -> Iterator[int]:
        """The local ranks that hold a part, ascending."""
        along, again = list(part), 0
        if self.again > 1:
            along[0], again = divmod(part[0], self.again)
        coordinates = [0] * len(self.devices)
        for which, number in zip(self.axes, along, strict=True):
            for axis, digit in zip(which, _digits(number, [self.devices[axis] for axis in which]), strict=True):
                coordinates[axis] = digit
        sizes = [self.devices[axis] for axis in self.spare]
        for copy in range(again, math.prod(sizes), self.again):
            for axis, digit in zip(self.spare, _digits(copy, sizes), strict=True):
                coordinates[axis] = digit
            yield _number(range(len(self.devices)), self.devices, coordinates)

    def every_part(self) -> Iterator[tuple[int, ...]]:
        """All parts, in row-major order."""
        return (_digits(number, self.parts) for number in range(math.prod(self.parts)))


class Box(NamedTuple):
    """A part of a tensor: its start in the whole, and the entry of its values."""

    start: tuple[int, ...]
    entry: Entry


class ImpossibleLayout(ValueError):
    """A layout that does not cut a tensor into boxes, or contradicts itself."""


def devices_of(layout: Layout) -> int:
    """The number of ranks of a layout."""
    return math.prod(layout.devices)


def rank_count(strategy: Strategy) -> int:
    """The number of ranks of all pipeline stages. A stage begins at a multiple of its own number of ranks."""
    ends = (
        (stage + 1) * max((devices_of(layout) for layout in layouts.values()), default=0)
        for stage, layouts in strategy.items()
    )
    return max(ends, default=0)


@functools.lru_cache(4096)  # parameters share their layouts
def partition_of(layout: Layout) -> Partition:
    """The partition of a tensor by a layout.

    Raises:
        ImpossibleLayout: it does not cut it into boxes.
    """
    if layout.field > 0:
        raise ImpossibleLayout(f"its rows are interleaved (field {layout.field}): its parts are not boxes")
    devices = layout.devices
    if not devices or min(devices) < 1 or math.prod(devices) > MOST_RANKS:
        raise ImpossibleLayout(f"its device matrix is {_some(devices)}")
    axes = [_device_axes(which, len(devices)) for which in layout.maps]
    used = [axis for which in axes for axis in which]
    if len(set(used)) != len(used):
        raise ImpossibleLayout(f"a device axis cuts twice: {_some(used)}")
    spare = tuple(axis for axis in range(len(devices)) if axis not in used)
    parts = [math.prod(devices[axis] for axis in which) for which in axes]
    again = _optimizer_parts(layout, math.prod(devices[axis] for axis in spare)) if axes else 1
    if again > 1:
        parts[0] *= again
    if layout.rows:
        _check_rows(layout, parts[0] if parts else 0)
    return Partition(tuple(parts), devices, tuple(map(tuple, axes)), spare, again)


def box_of(layout: Layout, part: tuple[int, ...], shard: tuple[int, ...]) -> tuple[int, ...]:
    """The start of the box of a part whose shape is `shard`.

    Raises:
        ImpossibleLayout: no part has that shape.
    """
    if len(shard) != len(part):
        raise ImpossibleLayout(f"it has {len(shard)} axes, the strategy cuts {len(part)}")
    if layout.rows:
        rows, start = layout.rows[part[0]], layout.starts[part[0]]
        if shard[0] != rows:
            raise ImpossibleLayout(f"it has {shard[0]:,} rows, the strategy says {rows:,}")
        return (start, *(number * size for number, size in zip(part[1:], shard[1:], strict=True)))
    return tuple(number * size for number, size in zip(part, shard, strict=True))


def whole_of(layout: Layout, cut: Partition, shard: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the whole tensor, given the shape of a part."""
    if layout.rows:
        rows = max(start + size for start, size in zip(layout.starts, layout.rows, strict=True))
        return (rows, *(size * parts for size, parts in zip(shard[1:], cut.parts[1:], strict=True)))
    return tuple(size * parts for size, parts in zip(shard, cut.parts, strict=True))


def _device_axes(which: tuple[int, ...], count: int) -> list[int]:
    """Device axes counted from the left; -1 is none."""
    axes = [count - 1 - axis for axis in which if axis != -1]
    if any(not 0 <= axis < count for axis in axes):
        raise ImpossibleLayout(f"there is no device axis for one of {_some(which)} among {count}")
    return axes


def _some(numbers: Sequence[int]) -> str:
    """A list for messages; its length is limited."""
    more = [f"… {len(numbers) - _SHOWN:,} more"] if len(numbers) > _SHOWN else []
    return f"[{', '.join([*map(str, numbers[:_SHOWN]), *more])}]"


def _check_rows(layout: Layout, parts: int) -> None:
    """Check that uneven parts fill the first axis: rows between them would be in no file."""
    if len(layout.rows) != parts:
        raise ImpossibleLayout(f"it has {len(layout.rows)} uneven parts where {parts} are needed")
    end = 0
    for start, rows in sorted(zip(layout.starts, layout.rows, strict=True)):
        if start != end or rows < 0:
            raise ImpossibleLayout(f"its uneven parts do not fill the first axis: one of {rows:,} begins at {start:,}")
        end = start + rows


def _optimizer_parts(layout: Layout, copies: int) -> int:
    if not layout.optimizer:
        return 1
    size = copies if layout.optimizer_size == -1 else layout.optimizer_size
    if not 0 < size <= copies:
        raise ImpossibleLayout(f"{copies} copies cannot be cut into {size} parts for the optimizer")
    return size


def _number(axes: Iterable[int], devices: Sequence[int], coordinates: Sequence[int]) -> int:
    """The row-major number of coordinates along some device axes, in the given order of axes."""
    number = 0
    for axis in axes:
        number = number * devices[axis] + coordinates[axis]
    return number


def _digits(number: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """The coordinates of a row-major number."""
    digits = []
    for size in reversed(sizes):
        number, digit = divmod(number, size)
        digits.append(digit)
    return tuple(reversed(digits))
