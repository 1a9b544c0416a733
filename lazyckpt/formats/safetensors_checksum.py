"""MindSpore's checksum of safetensors files: a crc32 over names and contents, by name.

One rule is a slip that MindSpore's reader and writer share, and so part of the format: contents become bytes by
Python's `bytes(array)`, which turns a zero-dimensional integer n into n zero bytes. Such integers are steps, seeds and
times, and may be large, so the zeros are not processed one by one: the register of a crc is a vector of bits, a zero
byte is a linear map of it, and n zeros are the n-th power of that map.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Final

_INTEGERS: Final = ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64")  # the names in headers
_MOST: Final = 2**63  # `bytes(n)` fails for a negative n and from here on: then the content itself is summed
_ALL: Final = 2**32 - 1


def add(crc: int, name: bytes, dtype: str, shape: Sequence[int], content: Iterable[bytes | memoryview]) -> int:
    """Add a tensor to a checksum.

    Args:
        crc: the checksum of the tensors before; 0 for the first.
        name: the name in UTF-8.
        dtype: the type's name in the header.
        shape: the dimensions.
        content: the bytes, in pieces.
    """
    crc = zlib.crc32(name, crc)
    if not len(shape) and dtype in _INTEGERS:
        data = b"".join(content)
        number = int.from_bytes(data, "little", signed=dtype.startswith("I"))
        return zeros(crc, number) if 0 <= number < _MOST else zlib.crc32(data, crc)
    for piece in content:
        crc = zlib.crc32(piece, crc)
    return crc


def zeros(crc: int, count: int) -> int:
    """Append `count` zero bytes to a crc32. Cost: O(log count)."""
    register = crc ^ _ALL
    step = [zlib.crc32(b"\0", 1 << bit ^ _ALL) ^ _ALL for bit in range(32)]  # the image of each bit under one zero byte
    while count:
        if count & 1:
            register = _mapped(step, register)
        step = [_mapped(step, column) for column in step]
        count >>= 1
    return register ^ _ALL


def _mapped(columns: Sequence[int], vector: int) -> int:
    """Apply a linear map, given by its columns, to a vector of bits."""
    found = 0
    for bit, column in enumerate(columns):
        if vector >> bit & 1:
            found ^= column
    return found
