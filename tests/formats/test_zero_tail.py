"""Zeros in place of a header: the error says where they begin, and how many values are whole."""

from __future__ import annotations

import numpy as np
import pytest
from checkpoints import checkpoint, counting, with_crc
from encryption import MODES, encrypted
from hypothesis import given
from hypothesis import strategies as st
from safetensors_files import file_of

from lazyckpt.errors import CorruptFile, LazyCkptError
from lazyckpt.formats import find, format_of
from lazyckpt.formats.ckpt import scan
from lazyckpt.formats.zero_tail import stands_before
from lazyckpt.model.dtypes import DTYPES
from lazyckpt.model.entry import TENSOR, Entry, Extent
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.encryption.cipher import MODES as CIPHERS
from lazyckpt.sources.encryption.frames import read_frame_headers

VALUES = {f"w{n}": counting((10 + n, 7)) + 1 for n in range(6)}
CKPT, SAFETENSORS = checkpoint(VALUES), file_of(VALUES)
ENDS = [entry.stop for entry in scan(BytesSource(CKPT))]


def refusal(data):
    """The error for a file, whose format its first bytes say."""
    source = BytesSource(data, "net")
    with pytest.raises(CorruptFile) as caught:
        list(find(source, format_of(source)))
    return caught.value


@given(st.integers(0, ENDS[-2] + 20), st.booleans())
def test_zeros_over_a_header_of_a_ckpt(kept, crc):
    """The error has the first of the zeros, and the number of values before them, whatever else is at the end."""
    data = CKPT[:kept].rstrip(b"\0")
    error = refusal(data + bytes(len(with_crc(CKPT) if crc else CKPT) - len(data)))
    whole = sum(end < len(data) + 4 for end in ENDS)  # the last element may end in zeros by itself

    assert error.what.startswith(f"zeros from byte {len(data):,} on: the download did not finish; ")
    assert error.what.endswith({0: "no value is whole", 1: "1 value is whole"}.get(whole, f"{whole} values are whole"))
    assert (error.offset, error.parameter) == (len(data), None)


@given(st.integers(9, len(SAFETENSORS) - sum(value.nbytes for value in VALUES.values()) - 1))
def test_zeros_in_the_header_of_a_safetensors_file(kept):
    """Without the whole header, no value is whole."""
    assert refusal(SAFETENSORS[:kept] + bytes(len(SAFETENSORS) - kept)).what == (
        f"zeros from byte {kept:,} on: the download did not finish; no value is whole"
    )


@pytest.mark.parametrize("form", ["ckpt", "safetensors"])
@pytest.mark.parametrize("size", [1, 7, 8, 100, 5000])
def test_a_file_of_zeros(form, size):
    """A file that holds nothing but zeros is said to hold these."""
    with pytest.raises(CorruptFile, match=r"^net: zeros from byte 0 on: the download did not finish; no value"):
        list(find(BytesSource(bytes(size), "net"), form))


def test_zeros_after_the_last_value():
    """A file that is longer than its values is not whole, its values are."""
    assert refusal(CKPT + bytes(100)).what == (
        f"zeros from byte {len(CKPT):,} on: the download did not finish; 6 values are whole"
    )


@pytest.mark.parametrize("data", [CKPT[:-1], CKPT + bytes(20), CKPT + b"\0" * 200 + b"\x01", b"\x0a\x7f" + CKPT])
def test_other_damage_is_called_by_its_own_name(data):
    """Cut files, other bytes, and few zeros are no unfinished download."""
    assert "download" not in refusal(data).what


def test_a_foreign_file_that_ends_in_zeros():
    """A number that can be no header's size says nothing about the zeros."""
    with pytest.raises(CorruptFile, match="its header would have"):
        list(find(BytesSource(b"\xff" * 100 + bytes(900), "net"), "safetensors"))


def test_damage_before_zeros_of_the_file_itself():
    """Zeros that belong to the last value have nothing to do with damage before it."""
    data = checkpoint({**VALUES, "moment": np.zeros((50, 50), "float32")})

    assert "download" not in refusal(b"\x0a\x06" + data[2:]).what


@pytest.mark.parametrize("mode", MODES)
def test_zeros_in_place_of_an_encrypted_block(mode):
    """The error for a frame that is zeros counts the whole blocks before it."""
    data = encrypted(CKPT, mode, block=500)
    frames = [frame.offset + frame.stored for frame in read_frame_headers(BytesSource(data), CIPHERS[mode])]
    for kept in (frames[2], frames[2] + 2, frames[2] + 30):
        source = BytesSource(data[:kept] + bytes(len(data) - kept))
        with pytest.raises(LazyCkptError, match=r"zeros from byte [\d,]+ on: the download did not finish; 3 encrypted"):
            read_frame_headers(source, CIPHERS[mode])


@pytest.mark.parametrize(
    ("begin", "expected"), [(100, True), (99, True), (97, True), (96, False), (80, False), (60, False), (50, False)]
)
def test_a_value_may_end_in_zeros_of_its_own(begin, expected):
    """Less than one element of zeros is its own, and a value that is all zeros is not told from lost ones."""
    entry = Entry("w", TENSOR, DTYPES["Float32"], (10,), (Extent(60, 40),), 50, 100)

    assert stands_before(entry, begin) is expected
