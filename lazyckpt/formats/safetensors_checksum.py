"""MindSpore's checksum of safetensors files: crc32 over each name and content, in the order of names.

One rule of it is a slip that reader and writer share, so that it has become the format: contents are turned into bytes
by Python's `bytes(array)`, which of a single integer without dimensions makes as many zeros as its number says. Such
numbers are steps, seeds and times; so zeros are not gone through one by one. The register of a crc is a vector of bits
and a zero byte a linear map of it: many zeros are a power of that map.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Final

_INTEGERS: Final = ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64")  # as headers name dtypes
_MOST: Final = 2**63  # below 0 and from here on, an integer is its content
_ALL: Final = 2**32 - 1


def add(crc: int, name: bytes, dtype: str, shape: Sequence[int], content: Iterable[bytes | memoryview]) -> int:
    """A checksum, with one more tensor.

    Args:
        crc: of the tensors before it; 0 at first.
        name: the tensor's, in UTF-8.
        dtype: its type as the header names it.
        shape: its dimensions.
        content: its bytes, a piece at a time.
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
    """A crc32, with so many zero bytes more. Cost: O(log count)."""
    register = crc ^ _ALL
    step = [zlib.crc32(b"\0", 1 << bit ^ _ALL) ^ _ALL for bit in range(32)]  # what a zero byte makes of each bit
    while count:
        if count & 1:
            register = _mapped(step, register)
        step = [_mapped(step, column) for column in step]
        count >>= 1
    return register ^ _ALL


def _mapped(columns: Sequence[int], vector: int) -> int:
    """A linear map of a vector of bits."""
    found = 0
    for bit, column in enumerate(columns):
        if vector >> bit & 1:
            found ^= column
    return found
