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


def _long_varint(buffer: Buffer, view: memoryview, base: int, position: int, end: int) -> tuple[int, int]:
    """`read_varint` in the view of a buffer that begins at `base`; errors have the offset in the buffer."""
    try:
        value, after = read_varint(view, position - base, end - base)
    except CorruptFile:
        return read_varint(buffer, position, end)
    return value, after + base


def fields(buffer: Buffer, position: int, end: int) -> Iterator[Field]:
    """Walk the fields of the message between two positions.

    Cost: about half a microsecond a field. Files of nothing but fields of two bytes are walked in bounded time, so
    this loop calls no function for a field whose key and length have one byte each.

    Raises:
        TruncatedFile: a field runs past `end`.
        CorruptFile: the bytes are not a protobuf message.
    """
    new = tuple.__new__
    moves = not isinstance(buffer, memoryview)
    if isinstance(buffer, memoryview):
        view, base, limit = buffer, 0, end
    else:
        view, base, limit = _look(buffer, position, end)
    while position < end:
        # The consumer of the last field may have fetched other bytes.
        if moves and (position >= limit or (isinstance(buffer, Window) and view is not buffer.view)):
            view, base, limit = _look(buffer, position, end)
            if position >= limit:  # the field may be cut by the end of what is fetched
                field = _field(buffer, position, end)
                yield field
                position = field.end
                continue
        start = position
        key = view[position - base]
        if 7 < key < 0x80 and not key & 5 and position + 1 < end:  # of one byte, and of wire type 0 or 2
            value = view[position + 1 - base]
            position += 2
            if value > 0x7F:
                value, position = _long_varint(buffer, view, base, position - 1, end)
            if not key & 2:
                yield new(Field, (key, start, start + 1, position, value))
                continue
            begin = position
            position += value
            if position > end:
                raise _too_long(value, end - begin, start)
            yield new(Field, (key, start, begin, position, 0))
        elif key & 7 == START_GROUP and 7 < key < 0x80 and position + 1 < end and view[position + 1 - base] == key + 1:
            position += 2  # an empty group
            yield new(Field, (key, start, start + 1, position, 0))
        else:
            field = _field(buffer, position, end)
            yield field
            position = field.end


def _look(buffer: Buffer, position: int, end: int) -> tuple[memoryview, int, int]:
    """Bytes in memory from a position on, their offset, and the position from which a field may be cut by their end."""
    if isinstance(buffer, memoryview):
        return buffer, 0, end
    if position >= end or not isinstance(buffer, Window):
        return _NOTHING, position, position
    view, base = buffer.view_at(position)
    return view, base, base + len(view) - _LONGEST_HEAD


_LONGEST_HEAD: Final = 20  # bytes of a key and a number
_NOTHING: Final = memoryview(b"")


def _field(buffer: Buffer, position: int, end: int) -> Field:
    """The field at a position, whatever its form."""
    start = position
    key, position = read_varint(buffer, position, end)
    if key >> 3 == 0:
        raise CorruptFile("field number 0 is illegal", offset=start)
    wire_type = key & 7
    if position - start != _shortest(key):
        key = ~key
    if wire_type == END_GROUP:
        raise CorruptFile("a group ends that never began", offset=start)
    if wire_type == LENGTH:
        length, begin = read_varint(buffer, position, end)
        if begin + length > end:
            raise _too_long(length, end - begin, start)
        return Field(key, start, begin, begin + length, 0)
    if wire_type == VARINT:
        value, after = read_varint(buffer, position, end)
        return Field(key, start, position, after, value)
    if wire_type == START_GROUP:
        after = _skip_group(buffer, (key if key >= 0 else ~key) + 1, position, end)
    else:
        after = position + _fixed(wire_type, position)
    if after > end:
        raise TruncatedFile("a field is cut off by the end of its message", offset=start)
    return Field(key, start, position, after, 0)


def _too_long(length: int, left: int, start: int) -> TruncatedFile:
    return TruncatedFile(f"a field of {length:,} bytes does not fit: its message ends {left:,} bytes on", offset=start)


def _fixed(wire_type: int, position: int) -> int:
    """The bytes of a value of fixed size."""
    if wire_type == FIXED64:
        return 8
    if wire_type == FIXED32:
        return 4
    raise CorruptFile(f"wire type {wire_type} does not exist", offset=position)


def _skip_group(buffer: Buffer, closing: int, position: int, end: int) -> int:
    """The position after a group, which may be past `end`. A loop: groups of one byte nest as cheaply as possible."""
    begins, closings = [position], [closing]
    view, base, limit = _look(buffer, position, end)
    while closings:
        if position >= end:
            raise TruncatedFile("a group is never closed", offset=begins[-1])
        if position >= limit and view is not buffer:
            view, base, limit = _look(buffer, position, end)
        start = position
        if position < limit and (key := view[position - base]) < 0x80:
            position += 1
        else:
            key, position = read_varint(buffer, position, end)
        wire_type = key & 7
        if wire_type == END_GROUP:
            if key != closings.pop() or position - start != _shortest(key):
                raise CorruptFile("a group is closed by the end of another", offset=start)
            begins.pop()
        elif wire_type == START_GROUP:
            if len(closings) >= MAX_DEPTH - 1:
                raise CorruptFile(f"groups are nested deeper than {MAX_DEPTH - 1}", offset=position)
            begins.append(position)
            closings.append(key + 1)
        elif wire_type in (VARINT, LENGTH):
            if position < min(limit, end) and (value := view[position - base]) < 0x80:
                position += 1
            else:
                value, position = read_varint(buffer, position, end)
            position += value if wire_type == LENGTH else 0
        else:
            position += _fixed(wire_type, position)
    return position


def _shortest(value: int) -> int:
    """Bytes of the shortest varint of `value`."""
    return max(1, (value.bit_length() + 6) // 7)
