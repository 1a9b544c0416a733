"""Parse files of one protobuf message with generated classes, after counting their items.

protobuf's pure-Python runtime, which MindSpore forces, takes some hundred bytes of memory for a submessage that takes
two bytes in a file. Therefore the wire walker goes over the file first, counts, and cuts it between fields of the
outermost message into pieces of limited count. A concatenation of messages is their merge, so each piece is a message
of the same class, and all pieces together are the file. Memory is bounded by a piece, time by the size of the file.

The walker also refuses what the two runtimes of protobuf read differently, and what no writer of these files makes: a
key that is not in its shortest form, a group, a name that is not UTF-8. A file means the same with both, or nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from lazyckpt.errors import CorruptFile, WrongFormat
from lazyckpt.formats.proto.group_info_pb2 import ParallelGroupMap
from lazyckpt.formats.proto.strategy_pb2 import ParallelStrategyMap
from lazyckpt.formats.protobuf_wire import END_GROUP, LENGTH, START_GROUP, VARINT, Field, fields

PIECE_ITEMS: Final = 2**11  # a piece is parsed as soon as it has so many items: a few MB of Python objects at most
# Limits of one field of the outermost message, which is an operator, a parameter or a group. The largest real ones are
# an operator with an input for each of some hundred tensors, and a group of as many numbers as there are ranks.
MOST_MESSAGES: Final = 2**12
MOST_ITEMS: Final = 2**18
_M = TypeVar("_M", bound=Message)


class _Schema(NamedTuple):
    """The fields of a message class, by their keys."""

    messages: Mapping[int, _Schema]
    strings: frozenset[int]
    packed: frozenset[int]  # repeated numbers, which a length-delimited field may hold together
    numbers: frozenset[int]  # the same, one by one
    is_closed: bool  # a field that is none of these is refused


def strategy_pieces(data: memoryview) -> Iterator[ParallelStrategyMap]:
    """Parse a strategy file piece by piece.

    Raises:
        CorruptFile: it is not one, or one of its items is larger than in any real file.
    """
    return _pieces(ParallelStrategyMap, data)


def group_info_pieces(data: memoryview) -> Iterator[ParallelGroupMap]:
    """Parse a group info file piece by piece.

    Raises:
        WrongFormat: it has a field that no group info has. A checkpoint would parse as one but for such fields.
        CorruptFile: it is damaged, or one of its items is larger than in any real file.
    """
    return _pieces(ParallelGroupMap, data, is_closed=True)


def _pieces(kind: type[_M], data: memoryview, is_closed: bool = False) -> Iterator[_M]:
    schema = _schema_of(kind.DESCRIPTOR, is_closed)
    start = items = 0
    for field in fields(data, 0, len(data)):
        count = _Count()
        count.add(data, field, schema)
        if count.messages > MOST_MESSAGES or count.items > MOST_ITEMS:
            raise CorruptFile(
                f"one item of it holds {count.messages:,} messages and {count.items:,} fields, more than any real file"
                f" ({MOST_MESSAGES:,} and {MOST_ITEMS:,})",
                offset=field.start,
            )
        items += count.items
        if items >= PIECE_ITEMS:
            yield _parsed(kind, data, start, field.end)
            start, items = field.end, 0
    yield _parsed(kind, data, start, len(data))


def _parsed(kind: type[_M], data: memoryview, start: int, end: int) -> _M:
    try:
        message: _M = kind.FromString(bytes(data[start:end]))  # upb takes nothing but bytes
        return message
    except DecodeError as error:
        raise CorruptFile(f"protobuf cannot parse it: {error}", offset=start) from None


class _Count:
    """What a field of the outermost message holds, itself included.

    Attributes:
        items: fields and packed numbers.
        messages: fields that are messages.
    """

    __slots__ = ("items", "messages")

    def __init__(self) -> None:
        self.items = self.messages = 0

    def add(self, data: memoryview, field: Field, schema: _Schema) -> None:
        """Count a field with all that it holds.

        Raises:
            CorruptFile: something in it is read differently by protobuf's runtimes.
            WrongFormat: it is unknown to a closed schema.
        """
        key, start, begin, end, _ = field
        self.items += 1
        if key in schema.numbers and end - begin < _LONGEST_NUMBER:  # the most frequent field has nothing to check
            return
        _check_form(data, key, start, begin, end)
        if schema.is_closed and not any(key in keys for keys in schema[:4]):
            raise WrongFormat(f"it has a field {key >> 3} that no file of this kind has", offset=start)
        if key & 7 != LENGTH:
            return
        inner = schema.messages.get(key)
        if inner is not None:
            self.messages += 1
            if begin < end:
                for each in fields(data, begin, end):
                    self.add(data, each, inner)
        elif key in schema.packed:
            self.items += len(bytes(data[begin:end]).translate(None, _CONTINUED))
        elif key in schema.strings and begin < end:
            try:
                str(data[begin:end], "utf-8")
            except UnicodeDecodeError:
                raise CorruptFile("a name is not UTF-8", offset=begin) from None


_CONTINUED: Final = bytes(range(0x80, 0x100))  # bytes of a varint but for its last one
_LONGEST_NUMBER: Final = 10  # bytes


def _check_form(data: memoryview, key: int, start: int, begin: int, end: int) -> None:
    wire_type = key & 7
    if key < 0 or key >= 2**32:
        raise CorruptFile("a field's key is not in its shortest form, or too large", offset=start)
    if wire_type in (START_GROUP, END_GROUP):
        raise CorruptFile("it holds a group, which no file of this kind has", offset=start)
    if wire_type == VARINT and end - begin == _LONGEST_NUMBER and data[end - 1] > 1:
        raise CorruptFile("a number has more than 64 bits", offset=begin)


@functools.cache
def _schema_of(message: Descriptor, is_closed: bool) -> _Schema:
    inner = {field.number: field.message_type for field in message.fields if field.message_type}
    strings = {field.number for field in message.fields if field.type == FieldDescriptor.TYPE_STRING}
    numbers = {field.number for field in message.fields} - inner.keys() - strings
    return _Schema(
        {number << 3 | LENGTH: _schema_of(each, is_closed) for number, each in inner.items()},
        frozenset(number << 3 | LENGTH for number in strings),
        frozenset(number << 3 | LENGTH for number in numbers),
        frozenset(number << 3 | VARINT for number in numbers),
        is_closed,
    )
