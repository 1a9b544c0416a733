"""Random keys for arrays: valid and invalid indices of numpy, and their outcomes."""

from __future__ import annotations

import array
import collections
import decimal
import enum
import fractions
import random
from typing import NamedTuple

import numpy as np

INTEGERS = ("i1", "u1", ">i2", "i2", "u2", "i4", "u4", ">i8", "i8", "u8")
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


class Series:
    """An object that is converted like those of pandas: a sequence that has an array."""

    def __init__(self, values):
        self.values = np.array(values)

    def __repr__(self):
        return f"Series({self.values!r})"

    def __len__(self):
        return len(self.values)

    def __getitem__(self, number):
        return self.values[number]

    def __iter__(self):
        return iter(self.values)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)


class Sequence:
    """An object that is a sequence, and nothing else."""

    def __init__(self, values):
        self.values = values

    def __repr__(self):
        return f"Sequence({self.values!r})"

    def __len__(self):
        return len(self.values)

    def __getitem__(self, number):
        return self.values[number]


class Interfaced:
    """An object that numpy sees through the array interface."""

    def __init__(self, values):
        self.kept = np.array(values, "i8")
        self.__array_interface__ = self.kept.__array_interface__

    def __repr__(self):
        return f"Interfaced({self.kept!r})"


class Broken:
    """An object whose conversion to an array raises an error."""

    def __init__(self, error):
        self.error = error

    def __repr__(self):
        return f"Broken({self.error!r})"

    def __array__(self, dtype=None, copy=None):
        raise type(self.error)(*self.error.args)  # the kept one would keep the frames that it went through


class Subclass(np.ndarray):
    """An array of a subclass."""


class Whole(int):
    """An integer of a subclass, whose index is another."""

    def __index__(self):
        return 1


class Pair(NamedTuple):
    """A tuple of a subclass."""

    one: int
    two: int


# Keys for an array of shape (6, 4), by name: every kind of key that numpy takes, and every kind that it refuses.
KEYS = {
    # integers
    "zero": 0,
    "last": -1,
    "true": True,
    "false": False,
    "numpy's true": np.True_,
    "true in a tuple": (True,),
    "true and an integer": (True, 1),
    "false and all": (False, ...),
    "int8": np.int8(-2),
    "uint64": np.uint64(3),
    "an enum": Two.TWO,
    "an index": Index(2),
    "an integer with an index of its own": Whole(3),
    "an index on each axis": (Index(1), Index(-1)),
    "too large": 6,
    "too small": (0, -5),
    "larger than 64 bits": 2**70,
    "an index larger than 64 bits": Index(2**70),
    "an index that raises": Index(None),
    # slices
    "all": slice(None),
    "from the end": slice(None, None, -1),
    "a step": slice(5, 0, -2),
    "beyond": slice(-100, 100, 3),
    "empty": slice(4, 2),
    "a huge step": slice(None, None, 2**70),
    "a step of numpy's": slice(np.int8(1), np.uint8(5), Index(2)),
    "a slice with a mask": slice(True, 4),
    "a step of zero": slice(None, None, 0),
    "a slice of floats": slice(0.0, 2.0),
    "a slice of text": (slice("a"), 0),
    "a slice of arrays": slice(np.array([1]), None),
    "a slice of an array without dimensions": slice(np.array(1), None),
    "two steps": (slice(None, None, 2), slice(None, None, -3)),
    # new axes and the ellipsis
    "none": None,
    "nones": (None, 0, None, slice(None), None),
    "thirty nones": (None,) * 30,
    "seventy nones": (None,) * 70,
    "an ellipsis": ...,
    "nothing": (),
    "an ellipsis at the end": (0, 1, ...),
    "an ellipsis at the start": (..., 0),
    "two ellipses": (..., ...),
    "too many": (0, 0, 0),
    "too many with an ellipsis": (0, ..., 0, 0),
    # sequences
    "a list": [1, 0, -1],
    "an empty list": [],
    "a list of lists": [[0, 1], [2, 3]],
    "a list of an empty list": [[]],
    "a list of bools": [True, False] * 3,
    "a list of too few bools": [True, False],
    "a list of a bool": [True],
    "a list of bools and integers": [True, 2],
    "a list of integers of numpy's": [np.int8(1), np.uint8(2)],
    "a list of int64 and uint64": [np.int64(1), np.uint64(2)],
    "a list of indexes": [Index(1), Index(2)],
    "a list of arrays": [np.array([1, 2]), np.array([0, 3])],
    "a list of arrays without dimensions": [np.array(1), np.array(2)],
    "a list of a slice": [slice(0, 1)],
    "a list of none": [None],
    "a list of an ellipsis": [...],
    "a list of floats": [0.0],
    "a list of text": ["a"],
    "a ragged list": [[1], [2, 3]],
    "a list too large": [6],
    "a list larger than 64 bits": [2**70],
    "a list larger than int64": [2**63],
    "a list on the second axis": (slice(None), [0, 2]),
    "lists on both axes": ([0, 1], [2, 3]),
    "lists that do not broadcast": ([0, 1], [1, 2, 3]),
    "a list and an integer": ([0, 1], 2),
    "an integer and a list": (0, [1, 2]),
    "lists around a slice": ([0, 1], slice(None), None),
    "lists apart": ([0, 1], None, [1, 2]),
    "a tuple in a tuple": ((0, 1), slice(None)),
    "a tuple on the second axis": (slice(None), (1, 2)),
    "a tuple in a list": [(0, 1)],
    "an empty tuple in a tuple": ((), 0),
    "a named tuple": Pair(1, 2),
    "a named tuple in a tuple": (Pair(1, 2),),
    "a range": range(1, 6, 2),
    "an empty range": range(0),
    "a range on the second axis": (slice(None), range(2)),
    "a deque": collections.deque([1, 2]),
    "Python's array": array.array("l", [1, 4]),
    "Python's array of bytes": array.array("b", [-1]),
    "Python's array of floats": array.array("d", [1.0]),
    "bytearray": bytearray(b"\1\2"),
    "a memoryview": memoryview(np.array([1, 2], "u2")),
    "a memoryview of bools": memoryview(np.array([True, False] * 3)),
    "a sequence": Sequence([1, 3]),
    "a sequence of bools": Sequence([True, False] * 3),
    "a series": Series([1, -1]),
    "a series of bools": Series([True] * 6),
    "a series of floats": Series([1.0]),
    "an empty series": Series([]),
    "a series on the second axis": (slice(None), Series([1, 2])),
    "an array interface": Interfaced([1, 2]),
    "a set": {1},
    "a dict": {0: 1},
    "a generator": (number for number in (1, 2)),
    "an iterator": iter([1, 2]),
    "keys of a dict": {0: 1}.keys(),
    # arrays
    **{f"an array of {kind}": np.array([1, 2], kind) for kind in INTEGERS},
    "an array of negative numbers": np.array([-1, -6], "i1"),
    "an array without dimensions": np.array(1),
    "an array without dimensions, too large": np.array(6, "u8"),
    "an array of uint64 larger than int64": np.array([2**64 - 1], "u8"),
    "an array of uint64 without dimensions": np.array(2**64 - 1, "u8"),
    "an empty array": np.array([], "i4"),
    "an empty array of floats": np.array([]),
    "an empty array of bools": np.array([], bool),
    "an array of shape (2, 0)": np.zeros((2, 0), "i8"),
    "an array of shape (2, 1, 2)": np.array([[[0, 1]], [[2, 3]]]),
    "a mask": np.array([True, False, True, False, False, True]),
    "a mask of none": np.zeros(6, bool),
    "a mask too short": np.ones(5, bool),
    "a mask of both axes": np.eye(6, 4, dtype=bool),
    "a mask of another shape": np.ones((4, 6), bool),
    "a mask of three axes": np.ones((6, 4, 1), bool),
    "a mask on the second axis": (slice(None), np.array([True, False, True, False])),
    "masks on both axes": (np.array([True, False] * 3), np.array([True, True, False, True])),
    "masks that do not broadcast": (np.array([True] * 6), np.array([True, True, False, False])),
    "a mask and an integer": (np.array([True, False] * 3), 0),
    "a mask without dimensions": np.array(True),
    "a mask without dimensions and a slice": (slice(2), np.array(False)),
    "an array of floats": np.array([1.0]),
    "an array of complex numbers": np.array([1j]),
    "an array of objects": np.array([1, 2], object),
    "an array of text": np.array(["1"]),
    "an array of bytes": np.array([b"1"]),
    "an array of times": np.array([1], "m8[s]"),
    "an array of dates": np.array([1], "M8[s]"),
    "an array of records": np.zeros(2, "i4,i4"),
    "an array backwards": np.array([0, 1, 2, 3])[::-1],
    "an array with a step": np.arange(12)[::3] % 6,
    "a read-only array": np.frombuffer(b"\1\2", "u1"),
    "an unaligned array": np.frombuffer(b"x\1\0\0\0\2\0\0\0", "u1")[1:].view("i4"),
    "an array of a subclass": np.array([1, 2]).view(Subclass),
    "a masked array": np.ma.masked_array([1, 2], [False, True]),
    "a matrix": np.array([[0, 1], [2, 3]]).view(Subclass),
    # objects
    "an object with an array": ArrayLike([1, 2]),
    "an object with an array and an index": ArrayLike([0, 0], 2),
    "an object with an array without dimensions": ArrayLike(3),
    "an object with a mask": ArrayLike([True, False] * 3),
    "an object with an empty array": ArrayLike([]),
    "an object with an array of floats": ArrayLike([1.0]),
    "an object with an array, on the second axis": (0, ArrayLike([1, 2])),
    "an object whose array raises": Broken(ValueError("no array")),
    "an object whose array raises an index error": Broken(IndexError("no array")),
    "an object whose array raises, in a tuple": (0, Broken(RuntimeError("no array"))),
    "an object whose array raises, after a number that is too large": (2**70, (0, Broken(RuntimeError("no array")))),
    "an object whose array raises, after two ellipses": (..., ..., Broken(RuntimeError("no array"))),
    "an object whose array raises, after too many": (0, 0, 0, Broken(KeyError("no array"))),
    "a float": 1.0,
    "a float of numpy's": np.float64(1),
    "a complex number": 1j,
    "a fraction": fractions.Fraction(2, 1),
    "a decimal": decimal.Decimal(1),
    "text": "name",
    "text of numpy's": np.str_("name"),
    "bytes": b"name",
    "a list of names": ["one", "two"],
    "an object": object,
    "a type": int,
    "a function": len,
    "not implemented": NotImplemented,
    "a time": np.timedelta64(1, "s"),
    "a record": np.zeros((), "i4,i4")[()],
    "text in a tuple": (0, "name"),
}


def any_key(choose: random.Random, shape):
    """An index of one axis, or a tuple of several."""
    if choose.random() < 0.3:
        return _part(choose, shape, 0)
    number, parts = 0, []
    while len(parts) < len(shape) + 2 and choose.random() < 0.75:
        parts.append(_part(choose, shape, number) if choose.random() < 0.5 else _basic(choose, shape, number))
        number += parts[-1] is not None and parts[-1] is not Ellipsis
    return tuple(parts)


_ANY = [key for name, key in KEYS.items() if name not in ("a generator", "an iterator")]


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
    kind = choose.randrange(11)
    if kind == 8:
        return Series(listed) if dims else Interfaced(listed)
    if kind == 9:
        return Sequence(listed) if dims else np.array(listed)
    if kind == 10:
        strided = np.repeat(flat, 2)[::2] if choose.random() < 0.5 else flat[::-1]
        return strided if choose.random() < 0.5 else [np.array(number) for number in flat]
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
    return choose.choice((mask, mask, mask.tolist(), ArrayLike(mask), np.flip(mask)))


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
    if choose.random() < 0.3:
        return choose.choice(_ANY)
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
