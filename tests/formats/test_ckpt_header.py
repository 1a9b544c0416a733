"""Tensor headers merge as in protobuf, and impossible dimensions are refused."""

from __future__ import annotations

import pytest
from checkpoints import chunk, number, tensor, varint

from lazyckpt.errors import CorruptFile
from lazyckpt.formats.ckpt_header import TensorHeader, impossible, merge_tensor, read_text
from lazyckpt.model.dtypes import DTYPES
from lazyckpt.model.entry import Extent


def merged(*messages):
    """The header after these messages are merged, one after another."""
    header = TensorHeader()
    for data in messages:
        merge_tensor(memoryview(data), 0, len(data), header)
    return header.dims, header.type, header.content


def test_a_header_is_read():
    """Dims, type and the content's offset are read; its bytes are not copied."""
    assert merged(b"".join(tensor([2, 3], "Int8", b"abcdef"))) == ([2, 3], "Int8", Extent(12, 6))


def test_fields_come_in_any_order():
    """Content before type before dims gives the same header."""
    assert merged(b"".join(tensor([2, 3], "Int8", b"abcdef")[::-1])) == ([2, 3], "Int8", Extent(2, 6))


def test_dims_may_be_packed():
    """Packed and single dims form one list, in their order in the file."""
    assert merged(number(1, 2) + chunk(1, varint(300) + varint(-1)) + number(1, 4))[0] == [2, 300, -1, 4]


def test_dims_without_end_take_no_memory():
    """Of too many dimensions one more than the limit is kept, which is enough to refuse them."""
    assert merged(chunk(1, b"\x02" * 1000) + number(1, 3) * 1000)[0] == [2] * 33


def test_what_is_missing_is_empty():
    """Every field is optional: an empty header is a scalar without type and content."""
    assert merged(b"") == ([], "", Extent(0, 0))


def test_what_comes_again_is_merged():
    """As protobuf merges messages, dims are appended, type and content replaced."""
    first, second = b"".join(tensor([2], "Int8", b"ab")), b"".join(tensor([3], "Int16", b"abcdef"))

    assert merged(first, second) == ([2, 3], "Int16", Extent(11, 6))


def test_unknown_fields_are_passed_over():
    """Known field numbers with another wire type are skipped, too."""
    data = number(2, 5) + chunk(4, b"x") + number(3, 5) + b"".join(tensor([1], "Int8", b"a")) + chunk(1, b"", key_pad=1)

    assert merged(data)[:2] == ([1], "Int8")


def test_text_is_utf8():
    """Names may be in any language."""
    assert read_text(memoryview("xx权重xx".encode()), 2, 8) == "权重"


@pytest.mark.parametrize("data", [b"\xff", b"ab\xc3", b"\xed\xa0\x80", b"\xc0\x80"])
def test_what_is_not_utf8_is_corrupt(data):
    """For invalid bytes, a lone surrogate or an overlong zero, the message has the offset of the first."""
    with pytest.raises(CorruptFile, match="not UTF-8") as caught:
        read_text(memoryview(b"--" + data), 2, 2 + len(data))

    assert caught.value.offset == 2 + data.startswith(b"ab") * 2


@pytest.mark.parametrize(
    ("dims", "dtype", "fault"),
    [
        ([], "Float32", ""),
        ([0], "Float32", ""),
        ([2, 3], "Float32", ""),
        ([1] * 32, "Float32", ""),
        ([2**60], "Float32", ""),
        ([0, 2**60], "Float32", ""),
        ([2**62], "Int8", ""),
        ([1] * 33, "Float32", "more than 32 dimensions"),
        ([-1], "Float32", "negative dimension"),
        ([2, -5], "Float32", "negative dimension"),
        ([2**62], "Float32", "larger than any memory"),
        ([2**63 - 1] * 30, "Float64", "larger than any memory"),
        ([0, 2**62], "Float32", "larger than any memory"),
    ],
)
def test_impossible_dimensions_are_refused(dims, dtype, fault):
    """Too many, negative or too large dimensions are refused; all that numpy can hold are accepted."""
    found = impossible(dims, DTYPES[dtype])

    assert fault in found if fault else not found
