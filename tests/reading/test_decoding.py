"""Decoding a content's bytes to a value; impossible entries are refused."""

from __future__ import annotations

from contextlib import suppress

import ml_dtypes
import numpy as np
import pytest
from checkpoints import counting, pattern
from entries import map_entry, string_entry, tensor_entry
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.errors import CorruptFile, StaleIndex
from lazyckpt.model.dtypes import DTYPES
from lazyckpt.model.entry import Extent
from lazyckpt.reading.decoding import bytes_of, dtype_of, elements, text_of, validate_bounds
from lazyckpt.sources.base import BytesSource

FILE = BytesSource(bytes(1000), "net.ckpt")


def test_only_a_tensor_has_a_dtype():
    """`dtype_of` gives the dtype of a tensor, and raises for other kinds."""
    assert dtype_of(tensor_entry("w", dtype="BFloat16")) is DTYPES["BFloat16"]
    with pytest.raises(TypeError, match="'s' is a string, not a tensor"):
        dtype_of(string_entry("s"))


@pytest.mark.parametrize(
    "array",
    [counting((2, 3)), counting((4, 6)).T, counting((4, 6))[::2, ::-1], np.zeros((0, 3)), np.array(5)],
    ids=["plain", "transposed", "strided", "empty", "scalar"],
)
def test_the_bytes_of_an_array_are_in_c_order(array):
    """`bytes_of` gives bytes in C order for any memory layout."""
    assert bytes_of(array) == array.tobytes(order="C")


@given(st.lists(st.integers(0, 15), max_size=20).map(lambda codes: codes[: len(codes) // 2 * 2]))
def test_packed_elements_come_out_in_order(codes):
    """The first of two packed elements is the lower half of the byte."""
    data = np.array([low | high << 4 for low, high in zip(codes[::2], codes[1::2], strict=True)], np.uint8)
    entry = tensor_entry("w", shape=(len(codes),), dtype="Float4E2M1FN", extents=(Extent(40, len(data)),))

    assert elements(entry, data).view(np.uint8).tolist() == codes


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20))
def test_old_bfloat16_is_the_upper_half_of_float32(numbers):
    """bfloat16 stored as float32 keeps every bit."""
    values = np.array(numbers, "float32").astype(ml_dtypes.bfloat16)
    stored = values.astype("float32")
    entry = tensor_entry("w", shape=values.shape, dtype="BFloat16", extents=(Extent(40, stored.nbytes),))

    assert elements(entry, stored.view(np.uint8)).tobytes() == values.tobytes()


def test_other_elements_are_their_bytes():
    """Other tensors are views of their bytes, and strings are the bytes themselves."""
    data = np.frombuffer(pattern(24), np.uint8)
    found = [elements(tensor_entry("w"), data), elements(string_entry("s"), data)]

    assert [(part.dtype, np.shares_memory(part, data)) for part in found] == [("float32", True), ("uint8", True)]


@given(st.text(st.characters()), st.integers(0, 3))
def test_a_text_is_what_was_written_without_zeros_at_its_end(text, zeros):
    """Any text survives a round trip, without trailing NULs, as in numpy."""
    data = (text + "\0" * zeros).encode("utf-32-le", "surrogatepass")

    assert text_of(string_entry("s"), data, "net.ckpt") == text.rstrip("\0")


@given(st.binary(max_size=40))
def test_a_text_is_read_or_refused(data):
    """Bytes that are not UTF-32 raise `CorruptFile` with their offset."""
    text = None
    with suppress(UnicodeDecodeError):
        text = data.decode("utf-32-le", "surrogatepass")
    if text is not None:
        assert text_of(string_entry("s"), data, "net.ckpt") == text.rstrip("\0")
        return
    with pytest.raises(CorruptFile, match=r"net\.ckpt: the string is not UTF-32.*'s'") as caught:
        text_of(string_entry("s"), data, "net.ckpt")
    assert 40 <= caught.value.offset < 40 + len(data)


SOUND = [
    tensor_entry("w"),
    tensor_entry("scalar", shape=()),
    tensor_entry("nothing", shape=(0, 3)),
    tensor_entry("vain", shape=(0,), extents=()),
    tensor_entry("pieces", shape=(4,), extents=(Extent(40, 4), Extent(60, 12)), stop=72),
    tensor_entry("wide", shape=(4,), dtype="BFloat16", extents=(Extent(40, 16),), stop=56),
    tensor_entry("packed", shape=(5,), dtype="Float4E2M1FN", extents=(Extent(40, 3),), stop=43),
    string_entry("s"),
    map_entry("m"),
]


@pytest.mark.parametrize("entry", SOUND, ids=lambda entry: entry.name)
def test_what_a_file_can_hold_makes_sense(entry):
    """Possible entries of every kind pass the check."""
    assert validate_bounds(entry, FILE) is None


W, M = SOUND[0], SOUND[-1]


@pytest.mark.parametrize(
    "entry",
    [
        W._replace(shape=(2, 4)),
        W._replace(shape=(-2, -3)),
        W._replace(shape=(2**62, 2**62)),
        W._replace(dtype=DTYPES["Float64"]),
        W._replace(extents=()),
        W._replace(extents=(Extent(30, 24),), start=31),
        W._replace(extents=(Extent(990, 24),), stop=1014),
        W._replace(extents=(Extent(-24, 24),), start=-30),
        W._replace(extents=(Extent(40, 30), Extent(70, -6))),
        W._replace(extents=(Extent(40, 12), Extent(46, 12)), stop=64),
        W._replace(stop=63),
        W._replace(start=65),
        W._replace(stop=2**64 - 1),
        W._replace(shape=(12,), extents=(Extent(40, 48),), stop=88, dtype=DTYPES["Float16"]),
        M._replace(arrays=(*M.arrays[:2], M.arrays[0])),
        M._replace(arrays=(M.arrays[0]._replace(shape=(3,)), *M.arrays[1:])),
        M._replace(stop=87),
    ],
)
def test_what_no_file_can_hold_is_refused(entry):
    """Entries that contradict themselves or the file raise `StaleIndex`."""
    with pytest.raises(StaleIndex, match="the index claims what no file can hold"):
        validate_bounds(entry, FILE)


@given(st.integers(-5, 1005), st.integers(-5, 1005), st.integers(-5, 1005), st.integers(-2, 40), st.integers(-2, 40))
def test_a_tensor_in_one_piece_makes_sense_only_inside_the_file(start, offset, stop, length, count):
    """A tensor in one piece passes exactly if it lies in the file and its size fits."""
    entry = W._replace(start=start, extents=(Extent(offset, length),), stop=stop, shape=(count,))
    sound = 0 <= start <= offset <= offset + length <= stop <= FILE.size and 0 <= length == 4 * count
    try:
        validate_bounds(entry, FILE)
        believed = True
    except StaleIndex:
        believed = False

    assert believed is sound
