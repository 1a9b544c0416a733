"""Parse a TensorProto: dims, type and the extent of its content; check what a header claims."""

from __future__ import annotations

import math
from typing import Final

from lazyckpt.errors import CorruptFile, StaleIndex
from lazyckpt.formats.protobuf_wire import Buffer, fields, read_varint, signed
from lazyckpt.model.dtypes import DType
from lazyckpt.model.entry import Entry, Extent

MAX_NDIM: Final = 32  # the limit of numpy 1.26
MAX_BYTES: Final = 2**62

# Field keys of a TensorProto: number << 3 | wire type.
_DIM, _PACKED_DIMS, _TYPE, _CONTENT = 0x08, 0x0A, 0x12, 0x1A


class TensorHeader:
    """The fields of a TensorProto, gathered one by one, as protobuf merges messages."""

    __slots__ = ("content", "dims", "type")

    def __init__(self) -> None:
        self.dims: list[int] = []
        self.type = ""
        self.content = Extent(0, 0)

    def add_dim(self, number: int) -> None:
        """Append a dimension. One more than the maximum is kept, so that the excess is noticed."""
        if len(self.dims) <= MAX_NDIM:
            self.dims.append(signed(number))


def merge_tensor(buffer: Buffer, begin: int, end: int, tensor: TensorHeader) -> None:
    """Merge a TensorProto into `tensor`. Protobuf's rule: append dims, replace other fields."""
    for field in fields(buffer, begin, end):
        if field.key == _DIM:
            tensor.add_dim(field.value)
        elif field.key == _PACKED_DIMS:
            position = field.begin
            while position < field.end:
                value, position = read_varint(buffer, position, field.end)
                tensor.add_dim(value)
        elif field.key == _TYPE:
            tensor.type = read_text(buffer, field.begin, field.end)
        elif field.key == _CONTENT:
            tensor.content = Extent(field.begin, field.end - field.begin)


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
    if any(dim < 0 for dim in dims):
        return f"shape {tuple(dims)} has a negative dimension"
    if math.prod(dim for dim in dims if dim) * dtype.itemsize > MAX_BYTES:
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
