"""New arrays for values: alignment and shared memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
from checkpoints import pattern
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.model.dtypes import DTYPES
from lazyckpt.reading.allocation import copied, shared

NUMBERS = st.sampled_from([DTYPES[name] for name in ("Bool", "Int8", "Float16", "BFloat16", "Int64", "Complex64")])
SHAPES = st.lists(st.integers(0, 7), max_size=3).map(tuple)


def place(array):
    """The address of an array."""
    return array.__array_interface__["data"][0]


def owner(array):
    """The array that owns the memory of an array."""
    while array.base is not None:
        array = array.base
    return array


@given(SHAPES, NUMBERS)
def test_a_copy_has_the_bytes_in_memory_of_its_own(shape, dtype):
    """`copied` gives an aligned, writable array in C order."""
    data = pattern(math.prod(shape) * dtype.itemsize)
    made = copied(shape, dtype, memoryview(data))

    assert (made.shape, made.dtype, made.tobytes()) == (shape, dtype.numpy, data)
    assert (place(made) % 64 if made.size else 0, made.flags.c_contiguous, made.flags.writeable) == (0, True, True)


@given(st.integers(1, 200), SHAPES.filter(math.prod), NUMBERS)
def test_each_of_many_values_is_an_array_of_its_own(count, shape, dtype):
    """`shared` gives aligned arrays in C order that do not overlap."""
    size = math.prod(shape)
    values = np.frombuffer(pattern(count * size * dtype.itemsize), dtype.numpy).reshape(count, *shape)
    contents = [values[number, ...].tobytes() for number in range(count)]
    made = shared(values)

    assert [one.tobytes() for one in made] == contents
    assert {(one.shape, one.dtype, one.flags.c_contiguous) for one in made} == {(shape, dtype.numpy, True)}
    assert all(place(one) % 64 == 0 for one in made)
    made[0][...] = 0
    assert [one.tobytes() for one in made[1:]] == contents[1:]


@pytest.mark.parametrize(("size", "together"), [(1, 64), (16, 64), (17, 32), (512, 2), (1024, 1), (5000, 1)])
def test_small_values_share_little_memory(size, together):
    """Small values share at most 4 KiB of memory; larger ones share none."""
    made = shared(np.ones((200, size), "float32"))
    owners = [id(owner(one)) for one in made]

    assert [owners.count(one) for one in owners[:1]] == [together]
    assert owner(made[0]).nbytes <= max(4096, 4 * size) + 64 + 64
