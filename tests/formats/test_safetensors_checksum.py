"""The checksum of a safetensors file equals MindSpore's, including its mistakes."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from checkpoints import counting
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.formats.safetensors_checksum import add, zeros
from lazyckpt.model.dtypes import DTYPES

INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


def of(array, crc=0, name="w"):
    """The checksum of one array, given in two pieces."""
    data = array.tobytes()
    kind = next(dtype.safetensors for dtype in DTYPES.values() if dtype.numpy == array.dtype)
    return add(crc, name.encode(), kind, array.shape, iter([data[:1], data[1:]]))


@given(st.integers(0, 2**32 - 1), st.integers(0, 5000))
def test_zeros_are_added_at_once(crc, count):
    """The sum of a run of zeros equals that of single zeros."""
    assert zeros(crc, count) == zlib.crc32(bytes(count), crc)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**62), st.integers(0, 2**62))
def test_zeros_add_up(crc, first, second):
    """Checksums of runs of zeros can be combined, also of runs too long to sum one by one."""
    assert zeros(zeros(crc, first), second) == zeros(crc, first + second)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 2**32 - 1))
def test_a_tensor_is_its_name_and_its_bytes(name, crc):
    """Name and bytes are summed one after the other, after all preceding tensors."""
    array = counting((2, 3))

    assert of(array, crc, name) == zlib.crc32(name.encode() + array.tobytes(), crc)


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("number", [0, 1, 17, 100])
def test_a_single_integer_is_as_many_zeros(kind, number):
    """A single integer is summed as Python's `bytes` treats it: as a count of zeros."""
    array = np.array(number, kind)

    assert of(array) == zlib.crc32(b"w" + bytes(array)) == zlib.crc32(b"w" + bytes(number))


@pytest.mark.parametrize("array", [np.array([17]), np.array([[3]], "int8"), np.array(True), np.array(0.5, "float16")])
def test_everything_else_is_its_content(array):
    """Integers with dimensions, flags and floats are summed as their content, as by `bytes`."""
    assert of(array) == zlib.crc32(b"w" + bytes(array)) == zlib.crc32(b"w" + array.tobytes())


@pytest.mark.parametrize("number", [np.array(-1), np.array(-128, "int8"), np.array(2**63, "uint64")])
def test_numbers_that_count_no_zeros_are_their_content(number):
    """Below 0 and from 2**63 on, saving and checking agree."""
    assert of(number) == zlib.crc32(b"w" + number.tobytes())


def test_a_time_is_no_reason_to_wait():
    """Seconds since 1970 count as many zeros, which are summed at once."""
    assert of(np.array(1_700_000_000)) == zeros(zlib.crc32(b"w"), 1_700_000_000)
