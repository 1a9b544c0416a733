"""Random keys for arrays: valid and invalid indices of numpy, and their outcomes."""

from __future__ import annotations

import array
import enum
import random

import numpy as np

INTEGERS = ("i1", "u1", ">i2", "u4", "i8", "u8")
NUMBERS = (2**31, 2**63, 2**63 - 1, -(2**63), -(2**63) - 1, 2**70)
SENSELESS = (
    1.0,
    1j,
    "name",
    b"a",
    "",
    ["name"],
    [1.0],
    {},
    {1},
    [None],
    [[1], [2, 3]],
    [2**63],
    [2**70],
    (1.5,),
    object,
)


class Two(enum.IntEnum):
    """An integer of a subclass."""

    TWO = 2


class Index:
    """An object with `__index__`, like scalars of other libraries; it may raise an error."""

    def __init__(self, number):
        self.number = number

    def __index__(self):
        if self.number is None:
            raise ValueError("this is not a single number")
        return self.number


class ArrayLike(Index):
    """An object that numpy converts to an array, like tensors of other libraries."""

    def __init__(self, values, number=None):
        super().__init__(number)
        self.values = values

    def __repr__(self):
        return f"ArrayLike({self.values!r})"

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)


def any_key(choose: random.Random, shape):
    """An index of one axis, or a tuple of several."""
    if choose.random() < 0.3:
        return _part(choose, shape, 0)
    number, parts = 0, []
    while len(parts) < len(shape) + 2 and choose.random() < 0.75:
        parts.append(_part(choose, shape, number) if choose.random() < 0.5 else _basic(choose, shape, number))
        number += parts[-1] is not None and parts[-1] is not Ellipsis
    return tuple(parts)


def outcome(value, key):
    """The outcome of a key: the type, dtype, shape and bytes, or the type and message of the error."""
    try:
        found = value[key]
    except Exception as error:  # noqa: BLE001  # any error of numpy
        return type(error), str(error)
    return type(found), found.dtype, found.shape, found.tobytes()


def _size(shape, number):
    return shape[number] if number < len(shape) else 3


def _part(choose, shape, number):
    """Any kind of index for the axis of this number."""
    kinds = (_basic, _basic, _picks, _picks, _masks, _odd) if choose.random() < 0.9 else (_wrong,)
    return choose.choice(kinds)(choose, shape, number)


def _place(choose, size):
    """An index into an axis, occasionally out of bounds."""
    beyond = choose.random() < 0.03
    return choose.randint(-size - beyond, size - 1 + beyond) if size or beyond else 0


def _basic(choose, shape, number):
    size = _size(shape, number)
    kind = choose.randrange(8)
    if kind < 3:
        return _place(choose, size)
    if kind == 6:
        return None
    if kind == 7:
        return Ellipsis
    ends = [choose.choice((None, choose.randint(-size - 2, size + 2))) for _ in range(2)]
    return slice(*ends, choose.choice((None, None, 1, 2, 3, -1, -2, 2**70, -(2**70))))


def _picks(choose, shape, number):
    """Integers in any form that numpy converts to an array."""
    size = _size(shape, number)
    dims = choose.choice(((), (1,), (2,), (2,), (3,), (0,), (2, 2), (1, 0)))
    picks = np.array([_place(choose, size) for _ in range(int(np.prod(dims)))], "i8").reshape(dims)
    listed = picks.tolist()
    flat = picks.reshape(-1)
    kind = choose.randrange(8)
    if kind == 0:
        return listed
    if kind == 1:
        return tuple(flat.tolist()) if number else [tuple(flat.tolist())]
    if kind == 2:
        return range(*sorted((_place(choose, size), _place(choose, size))))
    if kind == 3:
        return array.array("l", flat.tolist())
    if kind == 4:
        return memoryview(flat.astype("i4"))
    if kind == 5:
        return ArrayLike(listed)
    return picks.astype(choose.choice(INTEGERS))


def _masks(choose, shape, number):
    size = _size(shape, number)
    kind = choose.randrange(6)
    if kind == 0:
        return choose.choice((True, False, np.True_, np.False_, np.array(True)))
    dims = shape[number : number + choose.randint(1, 3)] if kind == 1 else (size,)
    if choose.random() < 0.05:
        dims = (choose.choice((0, size + 1)), *dims[1:])
    mask = np.array([choose.random() < 0.5 for _ in range(int(np.prod(dims)))], bool).reshape(dims)
    return choose.choice((mask, mask, mask.tolist(), ArrayLike(mask)))


def _odd(choose, shape, number):
    """An integer or a slice, in any of its types."""
    place = _place(choose, _size(shape, number))
    return choose.choice(
        (
            np.int64(place),
            np.int8(place),
            np.uint8(abs(place)),
            np.array(place),
            np.array(abs(place), "u8"),
            Index(place),
            ArrayLike([0, 0], place),
            ArrayLike(place),
            slice(np.int8(place), Index(place)),
            Two.TWO,
        )
    )


def _wrong(choose, shape, number):
    """A key that numpy refuses in most cases."""
    return choose.choice(
        (
            choose.choice(SENSELESS),
            choose.choice(NUMBERS),
            np.uint64(2**63),
            np.array([2**64 - 1], "u8"),
            np.array([1.0]),
            np.array([], "f4"),
            np.array([1], object),
            np.array([0], "m8[s]"),
            np.array([], "U1"),
            Index(choose.choice((None, *NUMBERS))),
            ArrayLike([0], 2**70),
            ArrayLike([]),
            ArrayLike([1.0]),
            slice(None, None, 0),
            slice(1.0),
            slice("a", None),
            slice(np.array([1, 2]), None),
            slice(Index(None)),
            (),
            (None,) * 40,
        )
    )
