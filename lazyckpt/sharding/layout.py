"""Which box of a tensor each rank holds: pure functions of a layout. See `strategy.Layout`.

Every shard is a box of the whole tensor. Device axes that no axis of the tensor uses make copies: ranks that agree in
all used coordinates hold the same box, and any of them will do.
"""

from __future__ import annotations

import functools
import math
from typing import Final, NamedTuple

import numpy as np

from lazyckpt.model.entry import Entry
from lazyckpt.sharding.strategy import Layout

MOST_RANKS: Final = 2**16


class Partition(NamedTuple):
    """A way to cut a tensor.

    Attributes:
        parts: into how many parts each axis is cut.
        places: for each local rank the number of its part along each axis.
    """

    parts: tuple[int, ...]
    places: tuple[tuple[int, ...], ...]

    def holders(self) -> dict[tuple[int, ...], list[int]]:
        """The local ranks that hold each part, ascending."""
        found: dict[tuple[int, ...], list[int]] = {}
        for local, place in enumerate(self.places):
            found.setdefault(place, []).append(local)
        return found


class Box(NamedTuple):
    """A part of a tensor: where it begins in the whole, and the entry that has its values."""

    start: tuple[int, ...]
    entry: Entry


class ImpossibleLayout(ValueError):
    """A layout that is no cut into boxes, or contradicts itself."""


def devices_of(layout: Layout) -> int:
    """How many ranks a layout is for."""
    return math.prod(layout.devices)


@functools.lru_cache(4096)  # parameters share their layouts
def partition_of(layout: Layout) -> Partition:
    """How a layout cuts a tensor.

    Raises:
        ImpossibleLayout: it does not cut it into boxes.
    """
    if layout.field > 0:
        raise ImpossibleLayout(f"its rows are interleaved (field {layout.field}): that is no cut into boxes")
    devices = layout.devices
    if not devices or min(devices) < 1 or math.prod(devices) > MOST_RANKS:
        raise ImpossibleLayout(f"its device matrix is {list(devices)}")
    axes = [_device_axes(which, len(devices)) for which in layout.maps]
    used = [axis for which in axes for axis in which]
    if len(set(used)) != len(used):
        raise ImpossibleLayout(f"a device axis cuts twice: {list(layout.maps)}")
    spare = [axis for axis in range(len(devices)) if axis not in used]
    parts = [math.prod(devices[axis] for axis in which) for which in axes]
    copies = math.prod(devices[axis] for axis in spare)
    again = _optimizer_parts(layout, copies) if axes else 1
    places = []
    for local in range(math.prod(devices)):
        coordinates = np.unravel_index(local, devices)
        place = [_number(which, devices, coordinates) for which in axes]
        if again > 1:
            place[0] = place[0] * again + _number(spare, devices, coordinates) % again
        places.append(tuple(place))
    if again > 1:
        parts[0] *= again
    if layout.rows and (not axes or len(layout.rows) != parts[0]):
        raise ImpossibleLayout(f"it has {len(layout.rows)} uneven parts where {parts[:1]} are needed")
    return Partition(tuple(parts), tuple(places))


def box_of(layout: Layout, place: tuple[int, ...], shard: tuple[int, ...]) -> tuple[int, ...]:
    """Where the box of a part begins, if it has the shape `shard`.

    Raises:
        ImpossibleLayout: no part has that shape.
    """
    if len(shard) != len(place):
        raise ImpossibleLayout(f"it has {len(shard)} axes, the strategy cuts {len(place)}")
    if layout.rows:
        rows, start = layout.rows[place[0]], layout.starts[place[0]]
        if shard[0] != rows:
            raise ImpossibleLayout(f"it has {shard[0]:,} rows, the strategy says {rows:,}")
        return (start, *(number * size for number, size in zip(place[1:], shard[1:], strict=True)))
    return tuple(number * size for number, size in zip(place, shard, strict=True))


def whole_of(layout: Layout, cut: Partition, shard: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the whole tensor, of which a part has the shape `shard`."""
    if layout.rows:
        rows = max(start + size for start, size in zip(layout.starts, layout.rows, strict=True))
        return (rows, *(size * parts for size, parts in zip(shard[1:], cut.parts[1:], strict=True)))
    return tuple(size * parts for size, parts in zip(shard, cut.parts, strict=True))


def _device_axes(which: tuple[int, ...], count: int) -> list[int]:
    """Device axes counted from the left; -1 is none."""
    axes = [count - 1 - axis for axis in which if axis != -1]
    if any(not 0 <= axis < count for axis in axes):
        raise ImpossibleLayout(f"there is no device axis for one of {list(which)} among {count}")
    return axes


def _optimizer_parts(layout: Layout, copies: int) -> int:
    if not layout.optimizer:
        return 1
    size = copies if layout.optimizer_size == -1 else layout.optimizer_size
    if not 0 < size <= copies:
        raise ImpossibleLayout(f"{copies} copies cannot be cut into {size} parts for the optimizer")
    return size


def _number(axes: list[int], devices: tuple[int, ...], coordinates: tuple[np.intp, ...]) -> int:
    """The row-major number of coordinates along some device axes, in the order in which these are given."""
    number = 0
    for axis in axes:
        number = number * devices[axis] + int(coordinates[axis])
    return number
