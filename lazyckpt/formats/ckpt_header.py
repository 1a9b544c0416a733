"""Parse a TensorProto: dims, type and the extent of its content; check what a header claims."""

from __future__ import annotations

import math
import re
from typing import Final

from lazyckpt.errors import CorruptFile, StaleIndex
from lazyckpt.formats.protobuf_wire import Buffer, fields, read_varint, signed
from lazyckpt.model.dtypes import DType
from lazyckpt.model.entry import Entry

MAX_NDIM: Final = 32  # the limit of numpy 1.26
MAX_BYTES: Final = 2**62
STR: Final = "str"  # the type of strings

_TOO_LONG: Final = re.compile(rb"[\x80-\xff]{10}")  # no number of at most 10 bytes

# Field keys of a TensorProto: number << 3 | wire type.
_DIM, _PACKED_DIMS, _TYPE, _CONTENT = 0x08, 0x0A, 0x12, 0x1A


class TensorHeader:
    """The fields of a TensorProto, gathered one by one, as protobuf merges messages."""

    __slots__ = ("content", "dims", "type")

    def __init__(self) -> None:
        self.dims: list[int] = []
        self.type = ""
        self.content = (0, 0)  # offset and length


def merge_tensor(buffer: Buffer, begin: int, end: int, tensor: TensorHeader) -> None:
    """Merge a TensorProto into `tensor`. Protobuf's rule: append dims, replace other fields.

    One dimension more than the maximum is kept, so that the excess is noticed.
    """
    dims = tensor.dims
    for key, _, start, stop, value in fields(buffer, begin, end):
        if key == _DIM:
            if len(dims) <= MAX_NDIM:
                dims.append(signed(value))
        elif key == _PACKED_DIMS:
            if start < stop:
                _add_packed(buffer, start, stop, dims)
        elif key == _TYPE:
            tensor.type = read_text(buffer, start, stop) if start < stop else ""
        elif key == _CONTENT:
            tensor.content = (start, stop - start)


def _add_packed(buffer: Buffer, position: int, end: int, dims: list[int]) -> None:
    """Append dimensions; of those beyond the maximum only the form is checked, all at once."""
    while position < end and len(dims) <= MAX_NDIM:
        value, position = read_varint(buffer, position, end)
        dims.append(signed(value))
    if position < end and (buffer[end - 1] > 0x7F or _TOO_LONG.search(buffer[position:end])):
        while position < end:  # one of them is no number: it raises
            position = read_varint(buffer, position, end)[1]


def read_text(buffer: Buffer, begin: int, end: int) -> str:
    """The UTF-8 text between two positions.

    Raises:
        CorruptFile: it is not UTF-8.
    """
    try:
        return str(buffer[begin:end], "utf-8")
    except UnicodeDecodeError as error:
        raise CorruptFile("a name is not UTF-8", offset=begin + error.start) from None


def impossible(dims: list[int], dtype: DType) -> str:
    """Why no array can have these dimensions; an empty string if one can."""
    if len(dims) > MAX_NDIM:
        return f"more than {MAX_NDIM} dimensions, which no array can have"
    if min(dims, default=0) < 0:
        return f"shape {tuple(dims)} has a negative dimension"
    if math.prod(filter(None, dims)) * dtype.itemsize > MAX_BYTES:
        return f"shape {tuple(dims)} of {dtype} is larger than any memory"
    return ""


def stale(entry: Entry) -> StaleIndex:
    """The error for an entry whose header is not at its offset in the file."""
    return StaleIndex(
        "the index does not match the file here: the file was changed in place, or the index is another's;"
        " delete the index or rebuild it (lazyckpt index --force)",
        offset=entry.start,
        parameter=entry.name,
    )
