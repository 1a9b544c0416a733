"""Count, extremes, mean, variance and norm of numbers that come in pieces. Pure functions.

Sums are float64, over blocks that fit into the processor's cache. Means and variances of two parts are combined by the
formula of Chan, Golub and LeVeque, which loses nothing to cancellation however large the mean is. Minimum and maximum
of integers are exact integers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

SPAN: Final = 8  # pieces that are combined before they are added to the total
_BLOCK: Final = 2**16  # elements: half a MiB of float64
_LONGEST_ROW: Final = 4096  # elements; above, numpy sums the squares of a row in another order than those of an array
Number = int | float
Array = npt.NDArray[Any]


class Moments(NamedTuple):
    """The moments of some numbers. NaNs and infinities are counted, and left out of `mean`, `spread` and `square`.

    Attributes:
        count: number of all numbers.
        finite: number of those that are neither NaN nor infinite.
        low: the smallest, NaN aside (an infinity counts); None for complex numbers, and if there is none.
        high: the largest, in the same way.
        mean: of the finite numbers.
        spread: the sum of squared distances from the mean.
        square: the sum of squares.
        zeros: number of zeros.
        nan: number of NaNs.
        inf: number of infinities.
    """

    count: int = 0  # type: ignore[assignment]  # as numpy and everybody calls it
    finite: int = 0
    low: Number | None = None
    high: Number | None = None
    mean: complex | float = 0.0
    spread: float = 0.0
    square: float = 0.0
    zeros: int = 0
    nan: int = 0
    inf: int = 0

    @property
    def std(self) -> float:
        """Standard deviation of the finite numbers, as a whole population."""
        return math.sqrt(self.spread / self.finite) if self.finite else math.nan

    @property
    def norm(self) -> float:
        """L2 norm of the finite numbers."""
        return math.sqrt(self.square)


NOTHING: Final = Moments()


def measure(pieces: Iterable[Array]) -> Moments:
    """The moments of numbers that come in pieces.

    Args:
        pieces: arrays of one numeric dtype, of any shape.

    Cost: a few passes over each piece while it is in the cache; a few MiB of memory.
    """
    total, room = NOTHING, _Room()
    with np.errstate(invalid="ignore", over="ignore"):  # of infinities, and of squares too large for float64
        for piece in pieces:
            flat = piece.reshape(-1)
            for start in range(0, flat.size, _BLOCK):
                total = together(total, _of_block(flat[start : start + _BLOCK], room))
    return total


def measure_each(values: Array) -> list[Moments]:
    """The moments of each of many small arrays, bit for bit those of `measure`.

    Args:
        values: an array of shape (number of arrays, *shape); none is empty.

    Cost: a few passes over some hundred arrays while they are in the cache; a few MiB of memory.
    """
    rows, room, found = values.reshape(len(values), -1), _Room(), list[Moments]()
    size = rows.shape[1]
    with np.errstate(invalid="ignore", over="ignore"):
        if size > _LONGEST_ROW or rows.dtype.kind == "c":
            return [_of_block(row, room) for row in rows]
        step = _BLOCK // size
        for start in range(0, len(rows), step):
            found += _of_rows(rows[start : start + step], room)
    return found


def measure_by_spans(pieces: Iterable[Array]) -> Moments:
    """The moments of pieces, `SPAN` at a time, bit for bit those of spans measured separately.

    Args:
        pieces: as for `measure`, none of them empty.
    """
    waiting, total = iter(pieces), NOTHING
    while (span := measure(islice(waiting, SPAN))).count:
        total = together(total, span)
    return total


def together(one: Moments, two: Moments) -> Moments:
    """The moments of two parts combined."""
    if not one.count or not two.count:
        return two if not one.count else one
    finite = one.finite + two.finite
    mean, spread = (one.mean, one.spread) if one.finite else (two.mean, two.spread)
    if one.finite and two.finite:
        apart = two.mean - one.mean
        mean = one.mean + apart * (two.finite / finite)
        spread = one.spread + two.spread + abs(apart) * abs(apart) * (one.finite * two.finite / finite)
    lows = [low for low in (one.low, two.low) if low is not None]
    highs = [high for high in (one.high, two.high) if high is not None]
    return Moments(
        one.count + two.count, finite, min(lows, default=None), max(highs, default=None), mean, spread,
        one.square + two.square, one.zeros + two.zeros, one.nan + two.nan, one.inf + two.inf,
    )  # fmt: skip


class _Room:
    """A float64 buffer that blocks reuse.

    dask makes its workers return freed memory to the system (`MALLOC_TRIM_THRESHOLD_`). New memory for every block
    would mean new pages for every block, which takes four times as long.
    """

    def __init__(self) -> None:
        self._wide = np.empty(_BLOCK, np.float64)
        self._narrow = np.empty(_BLOCK, np.float32)
        self._marks = np.empty(_BLOCK, np.bool_)

    def wide(self, block: Array) -> npt.NDArray[np.float64]:
        """The numbers in float64; valid until the next call."""
        if block.dtype.kind not in "biuf":  # of ml_dtypes, which converts to float64 through float32
            block = self._filled(self._narrow, block)
        return self._filled(self._wide, block)

    def zeros(self, wide: npt.NDArray[np.float64]) -> int:
        """How many numbers are zero."""
        return int(np.count_nonzero(np.equal(wide, 0, out=self._marks[: wide.size])))

    @staticmethod
    def _filled(room: Array, block: Array) -> Array:
        np.copyto(room[: block.size], block, casting="unsafe")
        return room[: block.size]


def _of_block(block: Array, room: _Room) -> Moments:
    kind = block.dtype.kind
    if kind == "c":
        return _complex(block)
    wide = room.wide(block)
    if kind in "biu":
        return _finite(wide, block.size, int(block.min()), int(block.max()), room)
    bounded = block if kind == "f" and block.itemsize >= 4 else wide  # numpy has no fast minimum of narrow floats
    low, high = float(bounded.min()), float(bounded.max())
    if math.isfinite(low) and math.isfinite(high):
        return _finite(wide, wide.size, low, high, room)
    nan = int(np.isnan(wide).sum())
    inf = int(np.isinf(wide).sum())
    bounds = (float(np.nanmin(wide)), float(np.nanmax(wide))) if nan < wide.size else (None, None)
    rest = wide[np.isfinite(wide)]
    found = (
        _finite(rest, rest.size, bounds[0], bounds[1], room) if rest.size else Moments(low=bounds[0], high=bounds[1])
    )
    return found._replace(count=wide.size, nan=nan, inf=inf)


def _of_rows(rows: Array, room: _Room) -> list[Moments]:
    """`_of_block` of each row."""
    kind, (count, size) = rows.dtype.kind, rows.shape
    wide = room.wide(rows.reshape(-1)).reshape(count, size)
    bounded = rows if kind in "biu" or (kind == "f" and rows.itemsize >= 4) else wide
    low, high = bounded.min(axis=1), bounded.max(axis=1)
    odd = [] if kind in "biu" else np.flatnonzero(~(np.isfinite(low) & np.isfinite(high))).tolist()
    zeros = np.count_nonzero(wide == 0, axis=1)
    square = np.einsum("ij,ij->i", wide, wide)
    mean = wide.sum(axis=1) / size
    wide -= mean[:, np.newaxis]
    spread = np.einsum("ij,ij->i", wide, wide)
    if kind == "b":
        low, high = low.astype(np.uint8), high.astype(np.uint8)
    columns = (low.tolist(), high.tolist(), mean.tolist(), spread.tolist(), square.tolist(), zeros.tolist())
    found = [Moments(size, size, *numbers) for numbers in zip(*columns, strict=True)]
    for number in odd:
        found[number] = _of_block(rows[number], room)
    return found


def _finite(wide: npt.NDArray[np.float64], size: int, low: Number | None, high: Number | None, room: _Room) -> Moments:
    """The moments of one or more finite numbers, which are overwritten."""
    zeros = room.zeros(wide)
    square = _square(wide)
    mean = float(wide.sum()) / size
    wide -= mean
    return Moments(size, size, low, high, mean, _square(wide), square, zeros)


def _square(numbers: npt.NDArray[np.float64]) -> float:
    """The sum of squares. Not by BLAS, whose threads compete with those that read."""
    return float(np.einsum("i,i->", numbers, numbers))


def _complex(block: Array) -> Moments:
    wide = block.astype(np.complex128)
    usable = np.isfinite(wide)
    nan, zeros = int(np.isnan(wide).sum()), wide.size - int(np.count_nonzero(wide))
    rest = wide[usable]
    if not rest.size:
        return Moments(wide.size, nan=nan, inf=wide.size - nan, zeros=zeros)
    square = _square(rest.view(np.float64))
    mean = complex(rest.sum()) / rest.size
    rest -= mean
    spread = _square(rest.view(np.float64))
    inf = wide.size - rest.size - nan
    return Moments(wide.size, rest.size, None, None, mean, spread, square, zeros, nan, inf)
