"""Encode the headers of `.ckpt` Values: all bytes of a file that are not contents.

    0A len  0A len tag  12 len  ( 08 dim )*  12 len type  [7A len 00…]  1A len  content

Strategy: pure functions from name, type, shape and length to the bytes before the content, identical to those of
protobuf's own writer. To align a content, zeros are put before it in field 15, which the schema does not have: protobuf
parsers must skip unknown fields, and MindSpore's does.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

TRAILER_MARK: Final = b"crc_num"
TRAILER: Final = 17  # bytes: the mark, and the crc32 as 10 big-endian ones
SLICE: Final = 512 * 2**20  # MindSpore writes a larger content as several Values of this size
_VALUE: Final = b"\x0a"
_TAG: Final = b"\x0a"
_TENSOR: Final = b"\x12"
_MAP: Final = b"\x1a"
_MAP_TENSOR: Final = b"\x0a"
_DIM: Final = b"\x08"
_TYPE: Final = b"\x12"
_CONTENT: Final = b"\x1a"
_PAD: Final = b"\x7a"
# An empty unknown field, appended to a stream whose last bytes happen to look like a trailer.
NOT_A_TRAILER: Final = b"\x7a\x00"


class Described(NamedTuple):
    """The facts of an array that its header states."""

    type: str
    shape: Sequence[int]
    nbytes: int


def varint(number: int) -> bytes:
    """Encode a number as a varint: base 128, lowest 7 bits first."""
    if number < 0x80:
        return _SMALL[number]
    digits = bytearray()
    while number >= 0x80:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


_SMALL: Final = tuple(bytes((number,)) for number in range(0x80))


def tensor_header(tag: bytes, value: Described, position: int = 0, align: int = 1) -> bytes:
    """The bytes before the content of a Value.

    Args:
        tag: the name in UTF-8.
        value: type, shape, and bytes of content (those of this slice; the shape is that of the whole value).
        position: the offset of the Value in the stream.
        align: the content begins at a multiple of this number of bytes.
    """
    parts = _Parts(tag, _claims(value.type, tuple(value.shape)), value.nbytes)
    plain = parts.header(0)
    missing = -(position + len(plain)) % align
    if not missing:
        return plain
    if missing > 1:
        padded = parts.header(missing)
        if not (position + len(padded)) % align:
            return padded
    # The padding makes the lengths around it larger, so they may need up to five more bytes, which shifts the content
    # again. Try the few possible sizes; a field takes at least two bytes, so 0 and 1 are impossible.
    sizes = {(missing - grown) % align + more for grown in range(6) for more in (0, align, 2 * align)}
    fitting = (header for header in map(parts.header, sorted(sizes - {0, 1})) if not (position + len(header)) % align)
    return next(fitting)


class _Parts(NamedTuple):
    """The parts of a header."""

    tag: bytes
    claims: bytes
    nbytes: int

    def header(self, padding: int) -> bytes:
        tensor = self.claims + _padding(padding) + _CONTENT + varint(self.nbytes)
        inner = _TAG + varint(len(self.tag)) + self.tag + _TENSOR + varint(len(tensor) + self.nbytes) + tensor
        return _VALUE + varint(len(inner) + self.nbytes) + inner


def map_headers(tag: bytes, arrays: Sequence[Described]) -> list[bytes]:
    """The bytes before each content of a map; every content directly follows its header."""
    heads = [_claims(array.type, tuple(array.shape)) + _CONTENT + varint(array.nbytes) for array in arrays]
    fronts = [_MAP_TENSOR + varint(len(head) + array.nbytes) + head for head, array in zip(heads, arrays, strict=True)]
    inside = _length(fronts) + sum(array.nbytes for array in arrays)
    named = _TAG + varint(len(tag)) + tag + _MAP + varint(inside)
    outer = _VALUE + varint(len(named) + inside) + named
    return [outer + fronts[0], *fronts[1:]] if fronts else [outer]


def trailer(crc: int) -> bytes:
    """The trailer of a file with a checksum."""
    return TRAILER_MARK + crc.to_bytes(TRAILER - len(TRAILER_MARK), "big")


@functools.lru_cache(65_536)
def _claims(type_name: str, shape: tuple[int, ...]) -> bytes:
    name = type_name.encode()
    return b"".join(_DIM + varint(dim) for dim in shape) + _TYPE + varint(len(name)) + name


def _padding(size: int) -> bytes:
    """A field of zeros that takes `size` bytes; empty for 0. More, if its length needs more than one byte."""
    return b"" if not size else _PAD + varint(size - 2) + bytes(size - 2)


def _length(parts: Iterable[bytes]) -> int:
    return sum(map(len, parts))
