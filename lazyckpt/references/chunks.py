"""Chunk grids for values: each chunk is one run of bytes in a file. Pure functions of shapes and lengths.

All chunks of a zarr array have one shape; a chunk at the far edge of an array is stored whole, and the part outside
the array is ignored. A chunk of a C-ordered array is one run of bytes if it is

    (1, …, 1, rows, all, …, all)        rows of one axis, all of the axes behind it, one of each before it

and chunk number n then begins at n x its bytes. Two more things are needed: `rows` must divide the axis, unless all
axes before it are 1 and the file goes on for the few bytes that the last chunk is too long (they are ignored); and if
a value is stored in several pieces, their borders must be borders of chunks.

If pieces end at odd offsets, no useful chunks meet all borders. Then chunks are small, and the few that cross a border
are copied (`Grid.across`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final, NamedTuple

from lazyckpt.model.entry import Extent

MOST: Final = 2**16  # chunks of one value: more make the references as large as the value
COPIED: Final = 2**20  # bytes of a chunk that is copied because it lies across a border
_POOR: Final = 8  # a divisor so many times smaller than the wanted size is not used if there is a larger one
_SPARE: Final = 32  # bytes of a value for each byte behind it that a chunk may also cover

Shape = tuple[int, ...]


class Grid(NamedTuple):
    """The chunks of a value.

    Attributes:
        chunk: the shape of one.
        counts: how many there are along each axis.
        nbytes: bytes of one.
        across: whether some lie across the border of two pieces.
    """

    chunk: Shape
    counts: Shape
    nbytes: int
    across: bool = False


@lru_cache(65_536)  # a network's shapes repeat
def plan(shape: Shape, itemsize: int, lengths: tuple[int, ...], most: int | None = None, room: int = 0) -> Grid | None:
    """Plan the chunks of a value.

    Args:
        shape: its dimensions.
        itemsize: bytes of an element.
        lengths: bytes of the pieces it is stored in, in order; their sum is the value's.
        most: bytes that a chunk should have at most, about; None for chunks as large as can be.
        room: bytes in the file after the last piece.

    Returns:
        The chunks; None if a value in pieces cannot be cut into at most 65,536 chunks of up to 1 MiB.
    """
    total = math.prod(shape) * itemsize
    if not total:
        return Grid(tuple(max(1, size) for size in shape), (0,) * len(shape), 0)
    unit = math.gcd(*(border for border in accumulate(lengths) if 0 < border < total))
    wish = total if most is None else min(max(most, itemsize), total)
    spare = total // _SPARE
    found = _plan(shape, itemsize, wish, unit, min(room, spare))
    if found is not None:
        return found
    if not unit:
        return Grid(shape, (1,) * len(shape), total)
    for limit in (min(wish, COPIED), min(total, COPIED)):
        small = _plan(shape, itemsize, limit, 0, spare)
        if small is not None and small.nbytes <= COPIED:
            return small._replace(across=True)
    return None


def cuts(grid: Grid, extents: Sequence[Extent]) -> Iterator[list[Extent]]:
    """The extents of each chunk, in order: usually one. Those of the last may be shorter than a chunk.

    Args:
        grid: the value's chunks.
        extents: its pieces, in order.
    """
    rest = [extent for extent in reversed(extents) if extent.length]
    for _ in range(math.prod(grid.counts) if grid.nbytes else 0):
        runs, missing = [], grid.nbytes
        while missing and rest:
            offset, length = rest.pop()
            taken = min(length, missing)
            runs.append(Extent(offset, taken))
            if taken < length:
                rest.append(Extent(offset + taken, length - taken))
            missing -= taken
        yield runs


def _plan(shape: Shape, itemsize: int, wish: int, unit: int, room: int) -> Grid | None:
    """The largest chunks whose size divides `unit` (0: of any size)."""
    if not shape:
        return None if unit else Grid((), (), itemsize)
    for axis, size in enumerate(shape):
        before = math.prod(shape[:axis])
        row = math.prod(shape[axis + 1 :]) * itemsize
        rows = _rows(size, row, wish, unit, room if before == 1 else 0)
        if rows:
            counts = (*shape[:axis], -(-size // rows), *(1 for _ in shape[axis + 1 :]))
            chunk = (*(1 for _ in shape[:axis]), rows, *shape[axis + 1 :])
            return Grid(chunk, counts, rows * row) if math.prod(counts) <= MOST else None
    return None


def _rows(size: int, row: int, wish: int, unit: int, room: int) -> int:
    """How many of `size` rows a chunk takes; 0 if it cannot take even one."""
    most = min(size, wish // row)
    if not most or unit % row:
        return 0
    if unit:
        fitting = [rows for rows in _divisors(unit // row) if rows <= most and -size % rows * row <= room]
        return max(fitting, default=0)
    even = -(-size // -(-size // most))  # the smallest number of chunks, of nearly equal size
    if -size % even * row <= room:
        return even
    divisors = _divisors(size)
    lower = max(rows for rows in divisors if rows <= most)
    return lower if lower * _POOR >= most else min(rows for rows in divisors if rows >= most)


def _divisors(number: int) -> list[int]:
    small = [divisor for divisor in range(1, math.isqrt(number) + 1) if not number % divisor]
    return small + [number // divisor for divisor in small]
