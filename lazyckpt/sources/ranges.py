"""Which bytes an index expression needs: pure planning, no I/O.

Strategy: numpy itself is asked. A basic index is applied to a phantom array that has the real shape and strides but
no memory of its own; where the result starts and how it strides tells every byte that is needed. Dimensions that lie
gapless in memory are folded into one run of bytes, so that a plan is a short list of (offset, length) however the
index is written. Integer arrays and masks on the first axis become rows, each with the same inner plan.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

# Runs with a smaller gap between them are read as one: a system call costs more than copying this much.
COALESCE_GAP: Final = 4096

Key = Any


class Plan(NamedTuple):
    """The bytes of an answer, in the answer's own order.

    Attributes:
        starts: offset of each run from the value's first byte, as int64, in the order in which they fill the answer.
        length: bytes of each run (all are alike).
        shape: the answer's shape.
    """

    starts: npt.NDArray[np.int64]
    length: int
    shape: tuple[int, ...]


def plan(shape: tuple[int, ...], itemsize: int, key: Key) -> Plan | None:
    """What `array[key]` needs of a C-ordered array.

    Args:
        shape: the array's shape.
        itemsize: bytes of an element.
        key: anything numpy takes as an index.

    Returns:
        The plan; None for indices that are cheaper to answer from the whole value (advanced ones that are not one
        integer array or mask on the first axis).

    Raises:
        IndexError: as numpy raises it.
    """
    parts = key if isinstance(key, tuple) else (key,)
    if parts and _is_advanced(parts[0]) and not any(map(_is_advanced, parts[1:])) and shape:
        return _rows(shape, itemsize, parts[0], parts[1:])
    if any(map(_is_advanced, parts)):
        return None
    return _basic(shape, itemsize, key)


def keeps_array(key: Key) -> bool:
    """Whether numpy answers a zero-dimensional result as an array (an ellipsis was given) and not as a scalar."""
    return any(part is Ellipsis for part in (key if isinstance(key, tuple) else (key,)))


def _is_advanced(part: object) -> bool:
    return isinstance(part, (list, np.ndarray, bool, np.bool_))


def _basic(shape: tuple[int, ...], itemsize: int, key: Key) -> Plan:
    phantom = _phantom(shape, itemsize)
    parts = key if isinstance(key, tuple) else (key,)
    if not any(part is Ellipsis for part in parts):
        parts = (*parts, Ellipsis)  # so that numpy answers a single element as a view and never looks at it
    picked = phantom[parts]
    start = picked.__array_interface__["data"][0] - phantom.__array_interface__["data"][0]
    return _runs(start, picked.shape, picked.strides, itemsize)


def _phantom(shape: tuple[int, ...], itemsize: int) -> npt.NDArray[np.void]:
    one = np.empty((), np.dtype((np.void, itemsize)))
    steps = [math.prod(shape[axis + 1 :]) * itemsize for axis in range(len(shape))]
    return np.lib.stride_tricks.as_strided(one, shape, steps)


def _runs(start: int, shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> Plan:
    if 0 in shape:
        return Plan(np.empty(0, np.int64), itemsize, shape)
    length, axis = itemsize, len(shape)
    while axis and (shape[axis - 1] == 1 or strides[axis - 1] == length):
        axis -= 1
        length *= shape[axis]
    starts = np.full(shape[:axis], start, np.int64)
    for outer in range(axis):
        steps = np.arange(shape[outer], dtype=np.int64) * strides[outer]
        starts += steps.reshape([-1 if other == outer else 1 for other in range(axis)])
    return Plan(starts.reshape(-1), length, shape)


def _rows(shape: tuple[int, ...], itemsize: int, key: Key, rest: tuple[Key, ...]) -> Plan | None:
    picker = np.asarray(key)
    if picker.dtype == bool:
        if picker.ndim != 1:
            return None
        if len(picker) != shape[0]:
            raise IndexError(
                f"boolean index did not match indexed array along axis 0; size of axis is {shape[0]} but size of"
                f" corresponding boolean axis is {len(picker)}"
            )
        picker = np.flatnonzero(picker)
    if picker.size == 0 and isinstance(key, list):
        picker = picker.astype(np.int64)
    if picker.dtype.kind not in "iu":
        raise IndexError("arrays used as indices must be of integer (or boolean) type")
    outside = (picker < -shape[0]) | (picker >= shape[0])
    if outside.any():
        raise IndexError(f"index {picker[outside].flat[0]} is out of bounds for axis 0 with size {shape[0]}")
    rows = picker.astype(np.int64)  # a small type could not hold the sum
    rows = np.where(rows < 0, rows + shape[0], rows)
    inner = _basic(shape[1:], itemsize, rest)
    row = math.prod(shape[1:]) * itemsize
    starts = (rows.reshape(-1, 1) * row + inner.starts).reshape(-1)
    return Plan(starts, inner.length, rows.shape + inner.shape)


def coalesce(starts: npt.NDArray[np.int64], length: int, gap: int = COALESCE_GAP) -> list[tuple[int, int, slice]]:
    """Group ascending runs of one length into reads.

    Returns:
        For each read: its offset, its length, and which of `starts` it covers.
    """
    if not len(starts):
        return []
    breaks = np.flatnonzero(np.diff(starts) > length + gap) + 1
    edges = [0, *breaks.tolist(), len(starts)]
    return [
        (int(starts[first]), int(starts[last - 1]) + length - int(starts[first]), slice(first, last))
        for first, last in pairwise(edges)
    ]


def spans(wanted: list[tuple[int, int]], gap: int, longest: int) -> list[tuple[int, int]]:
    """The ranges to fetch so that all wanted ones are there.

    Args:
        wanted: (offset, length) in any order; they may overlap.
        gap: ranges with at most so many bytes between them are fetched as one.
        longest: longer ones are cut, so that they can be fetched at the same time.

    Returns:
        (start, stop), ascending and apart from each other.
    """
    runs: list[tuple[int, int]] = []
    for start, length in sorted(wanted):
        if not length:
            continue
        if runs and start <= runs[-1][1] + gap:
            runs[-1] = runs[-1][0], max(runs[-1][1], start + length)
        else:
            runs.append((start, start + length))
    return [(first, min(first + longest, stop)) for start, stop in runs for first in range(start, stop, longest)]
