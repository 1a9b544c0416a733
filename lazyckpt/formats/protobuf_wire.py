"""Protobuf's wire format, read field by field without copying the contents.

Strategy: pure functions of an indexable buffer (a memoryview, or a `Window` over a source) and a position. A
length-delimited field is reported as the range of its bytes; the bytes themselves are not read.

    field  = key value          key = varint(field number << 3 | wire type)
    value  = varint                        wire type 0
           | 8 bytes                       wire type 1
           | varint(n) n bytes             wire type 2
           | field* end-group key          wire type 3 … 4
           | 4 bytes                       wire type 5

MindSpore selects protobuf's pure-Python parser, so its rules hold here: a varint has at most 10 bytes and keeps its low
64 bits; groups nest less than 100 deep; a key that is not in its shortest form is an unknown field; field number 0 is
illegal outside unknown groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from lazyckpt.errors import CorruptFile, TruncatedFile
from lazyckpt.sources.window import SparseBuffer, Window

Buffer = memoryview | Window | SparseBuffer

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
START_GROUP: Final = 3
END_GROUP: Final = 4
FIXED32: Final = 5
MAX_DEPTH: Final = 100
_LOW_64_BITS: Final = 2**64 - 1


class Field(NamedTuple):
    """One field of a message.

    Attributes:
        key: field number << 3 | wire type; the complement (a negative number) if it is not in its shortest form.
        start: the position of the key.
        begin: the position of the value's bytes (for wire type 2: after the length).
        end: the position after the field.
        value: the value of a varint field, else 0.
    """

    key: int
    start: int
    begin: int
    end: int
    value: int


def read_varint(buffer: Buffer, position: int, end: int) -> tuple[int, int]:
    """Read a base-128 varint: its value (low 64 bits) and the position after it.

    Raises:
        TruncatedFile: it runs past `end`.
        CorruptFile: it is longer than 10 bytes.
    """
    result = shift = 0
    start = position
    while True:
        if position >= end:
            raise TruncatedFile("a number is cut off by the end of its message", offset=start)
        byte = buffer[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & _LOW_64_BITS, position
        shift += 7
        if shift >= 64:
            raise CorruptFile("a number is longer than 10 bytes", offset=start)


def signed(value: int) -> int:
    """The two's complement reading of a 64-bit number."""
    return value - 2**64 if value >= 2**63 else value


def fields(buffer: Buffer, position: int, end: int) -> Iterator[Field]:
    """Walk the fields of the message between two positions.

    Raises:
        TruncatedFile: a field runs past `end`.
        CorruptFile: the bytes are not a protobuf message.
    """
    while position < end:
        start = position
        key, position = read_varint(buffer, position, end)
        if key >> 3 == 0:
            raise CorruptFile("field number 0 is illegal", offset=start)
        if position - start != _shortest(key):
            key = ~key
        wire_type = (key if key >= 0 else ~key) & 7
        if wire_type == END_GROUP:
            raise CorruptFile("a group ends that never began", offset=start)
        field = _field(buffer, key, wire_type, start, position, end)
        yield field
        position = field.end


def _field(buffer: Buffer, key: int, wire_type: int, start: int, position: int, end: int) -> Field:
    if wire_type == LENGTH:
        length, begin = read_varint(buffer, position, end)
        if begin + length > end:
            raise TruncatedFile(
                f"a field of {length:,} bytes does not fit: its message ends {end - begin:,} bytes on", offset=start
            )
        return Field(key, start, begin, begin + length, 0)
    if wire_type == VARINT:
        value, after = read_varint(buffer, position, end)
        return Field(key, start, position, after, value)
    after = _skip(buffer, key if key >= 0 else ~key, position, end, depth=1)
    if after > end:
        raise TruncatedFile("a field is cut off by the end of its message", offset=start)
    return Field(key, start, position, after, 0)


def _skip(buffer: Buffer, key: int, position: int, end: int, depth: int) -> int:
    """The position after the value of an unknown field; it may be past `end`."""
    wire_type = key & 7
    if wire_type == VARINT:
        return read_varint(buffer, position, end)[1]
    if wire_type == FIXED64:
        return position + 8
    if wire_type == FIXED32:
        return position + 4
    if wire_type == LENGTH:
        length, position = read_varint(buffer, position, end)
        return position + length
    if wire_type == START_GROUP:
        return _skip_group(buffer, key + 1, position, end, depth)
    raise CorruptFile(f"wire type {wire_type} does not exist", offset=position)


def _skip_group(buffer: Buffer, closing: int, position: int, end: int, depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise CorruptFile(f"groups are nested deeper than {MAX_DEPTH - 1}", offset=position)
    begin = position
    while position < end:
        start = position
        key, position = read_varint(buffer, position, end)
        if key & 7 == END_GROUP:
            if key != closing or position - start != _shortest(key):
                raise CorruptFile("a group is closed by the end of another", offset=start)
            return position
        position = _skip(buffer, key, position, end, depth + 1)
    raise TruncatedFile("a group is never closed", offset=begin)


def _shortest(value: int) -> int:
    """Bytes of the shortest varint of `value`."""
    return max(1, (value.bit_length() + 6) // 7)
