"""Which bytes an index expression needs: pure planning, no I/O.

Strategy: every part of a key is first made what numpy makes of it: None, an ellipsis, a slice, an integer, or else an
array. Integers and slices become ranges along their axes. An integer array or a mask on the first axis becomes a list
of rows. Other arrays have no plan. Axes that lie gapless in memory are folded into one run of bytes; what is left is
one range or list of offsets for each axis. A key that numpy refuses is refused by numpy itself.
"""

from __future__ import annotations

import operator
from contextlib import suppress
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

_MOST_PARTS: Final = 32  # dimensions that an array may have in every version of numpy
_ELEMENT: Final = np.zeros((), np.uint8)
Key = Any
Axis = range | npt.NDArray[np.int64]


class Picked(NamedTuple):
    """What a key picks of an array.

    Attributes:
        axes: for each axis of the array, the indexes that are wanted, in order. Only the first may be a (flat) array.
        shape: the answer's shape.
        is_scalar: whether numpy answers with a scalar, not with an array without dimensions.
    """

    axes: tuple[Axis, ...]
    shape: tuple[int, ...]
    is_scalar: bool


class Plan(NamedTuple):
    """The bytes of an answer: runs of one length, at all crossings of the axes, in the answer's own order.

    A regular plan takes the same memory for any number of runs.

    Attributes:
        start: offset of the first byte of the first run, without what the axes add.
        axes: along each axis, the outermost first, what each index adds to the offset. Only the first may be an array.
        length: bytes of each run (all are alike).
        shape: the answer's shape.
        is_scalar: whether numpy answers with a scalar, not with an array without dimensions.
    """

    start: int
    axes: tuple[Axis, ...]
    length: int
    shape: tuple[int, ...]
    is_scalar: bool


def plan(shape: tuple[int, ...], itemsize: int, key: Key) -> Plan | None:
    """What `array[key]` needs of a C-ordered array.

    Args:
        shape: the array's shape.
        itemsize: bytes of an element.
        key: any object.

    Returns:
        The plan; None for keys that are to be answered from the whole value (see `picked`).

    Raises:
        Exception: the one that numpy raises for this key: mostly an IndexError.
    """
    found = picked(shape, key)
    return None if found is None else _runs(shape, itemsize, found)


def picked(shape: tuple[int, ...], key: Key) -> Picked | None:
    """What a key picks of each axis of an array, by numpy's rules.

    Args:
        shape: the array's shape.
        key: any object.

    Returns:
        What is picked; None for keys that are to be answered from the whole value: arrays other than one integer array
        or one mask on the first axis, and more dimensions than every version of numpy allows.

    Raises:
        Exception: the one that numpy raises for this key: mostly an IndexError.
    """
    with suppress(Exception):  # an object that numpy makes an array of may raise anything, and numpy may never ask it
        return _picked(shape, key)
    # The versions of numpy differ in what they say, and in what they refuse if the answer is empty. So numpy is asked,
    # with an array of this shape that repeats one element.
    operator.getitem(np.broadcast_to(_ELEMENT, shape), key)
    return None


def _picked(shape: tuple[int, ...], key: Key) -> Picked | None:
    """See `picked`. An error stands for whatever numpy says of this key."""
    parts = [_part(part) for part in (key if isinstance(key, tuple) else (key,))]
    arrays = [(number, part) for number, part in enumerate(parts) if isinstance(part, np.ndarray)]
    if len(parts) > _MOST_PARTS or any(number or not _are_rows(part) for number, part in arrays):
        return None
    dots = sum(part is Ellipsis for part in parts)
    spare = len(shape) - len(parts) + dots + sum(part is None for part in parts)
    if dots > 1 or spare < 0:
        raise IndexError
    axes: list[Axis] = []
    answer: list[int] = []
    for part in parts if dots else (*parts, Ellipsis):
        if part is None:
            answer.append(1)
        elif part is Ellipsis:
            rest = shape[len(axes) : len(axes) + spare]
            axes += map(range, rest)
            answer += rest
        elif isinstance(part, slice):
            axes.append(range(shape[len(axes)])[part])
            answer.append(len(axes[-1]))
        elif isinstance(part, int):
            index = range(shape[len(axes)])[part]
            axes.append(range(index, index + 1))
        else:
            rows = _rows(part, shape[0])
            axes.append(rows.reshape(-1))
            answer += rows.shape
    made = tuple(answer)
    return Picked(tuple(axes), made, not (made or dots)) if len(made) <= _MOST_PARTS else None


def _part(part: Any) -> Any:
    """A part of a key as None, an ellipsis, a slice, an integer, or an array of integers or bools.

    Raises:
        IndexError: numpy makes none of these of it.
        Exception: what the object raises when numpy makes an array of it.
    """
    if part is None or part is Ellipsis or isinstance(part, slice) or type(part) is int:
        return part
    if not isinstance(part, (np.ndarray, bool, np.bool_)):  # a bool is a mask, though Python counts it as an integer
        with suppress(Exception):  # numpy, too, goes on whatever is raised here
            number = operator.index(part)
            if -(2**63) <= number < 2**63:
                return number
    array = np.asarray(part)
    if not array.size and not isinstance(part, np.ndarray):
        array = array.astype(np.int64)  # an empty list would be of floats
    if array.dtype.kind not in "iub":
        raise IndexError
    return array if array.ndim or array.dtype == bool else int(array)


def _are_rows(array: npt.NDArray[Any]) -> bool:
    """Whether an array picks along one axis."""
    return array.dtype != bool or array.ndim == 1


def _rows(picker: npt.NDArray[Any], size: int) -> npt.NDArray[np.int64]:
    """The indexes along an axis that an integer array or a flat mask picks."""
    if picker.dtype == bool:
        if len(picker) != size:
            raise IndexError
        return np.flatnonzero(picker).astype(np.int64, copy=False)
    # A small type could not hold the sum; what is too large for this one wraps in numpy.
    rows: npt.NDArray[np.int64] = picker.astype(np.int64, copy=False)
    if not rows.size:
        return rows
    least = rows.min()
    if least < -size or rows.max() >= size:
        raise IndexError
    return rows if least >= 0 else np.where(rows < 0, rows + size, rows)


def _runs(shape: tuple[int, ...], itemsize: int, found: Picked) -> Plan:
    """The runs of bytes that hold the picked elements."""
    if 0 in found.shape:
        return Plan(0, (range(0),), itemsize, found.shape, found.is_scalar)
    start, length, stride = 0, itemsize, itemsize
    apart: list[Axis] = []  # the axes that are not folded, the innermost first
    for size, axis in zip(reversed(shape), reversed(found.axes), strict=True):
        if not isinstance(axis, range):
            apart.append(axis * stride)
        else:
            start += axis[0] * stride
            count, step = len(axis), axis.step * stride
            if count > 1 and step == length and not apart:
                length *= count
            elif count > 1:
                apart.append(range(0, count * step, step))
        stride *= size
    return Plan(start, tuple(reversed(apart)), length, found.shape, found.is_scalar)
