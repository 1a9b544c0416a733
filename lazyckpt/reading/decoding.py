"""Arrays for values, and the requests that fill them. Pure functions of entries."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from lazyckpt.errors import CorruptFile, StaleIndex
from lazyckpt.model.dtypes import DType
from lazyckpt.model.entry import Entry, is_plain
from lazyckpt.reading.allocation import AnyArray
from lazyckpt.sources.base import Source


def dtype_of(entry: Entry) -> DType:
    """A tensor's dtype.

    Raises:
        TypeError: the entry is not a tensor.
    """
    if entry.dtype is None:
        raise TypeError(f"{entry.name!r} is a {entry.kind}, not a tensor")
    return entry.dtype


def elements(entry: Entry, data: npt.NDArray[np.uint8]) -> AnyArray:
    """Stored bytes (whole elements) as a flat array of their values; of a string as they are."""
    if entry.dtype is None:
        return data
    made: AnyArray
    if is_plain(entry):
        made = data.view(entry.dtype.numpy)
    elif entry.dtype.is_packed:  # the first of two in the lower half of the byte
        made = np.stack([data & 0xF, data >> 4], axis=1).reshape(-1).view(entry.dtype.numpy)
    else:  # bfloat16 kept as float32: its upper half
        made = data.view("<u2")[1::2].copy().view(entry.dtype.numpy)
    return made


def bytes_of(array: AnyArray) -> memoryview:
    """An array's bytes, in C order."""
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")


def text_of(entry: Entry, data: bytes, file: str) -> str:
    """The text of a string entry, as numpy reads a UTF-32 scalar: without trailing NULs."""
    try:
        return data.decode("utf-32-le", "surrogatepass").rstrip("\0")
    except UnicodeDecodeError as error:
        raise CorruptFile(
            f"the string is not UTF-32: {error.reason}",
            offset=entry.extents[0].offset + error.start,
            parameter=entry.name,
            file=file,
        ) from None


def validate_bounds(entry: Entry, source: Source) -> None:
    """Refuse an entry that no file can hold, before room is made for its value."""
    if len(entry.extents) == 1 and not entry.arrays and _is_sound(entry, source.size):
        return
    position = entry.start
    makes_sense = 0 <= entry.start <= entry.stop <= source.size
    for offset, length in sorted(entry.all_extents):
        makes_sense &= position <= offset and length >= 0
        position = offset + length
    for dtype, shape, extents in entry.arrays or ((entry.dtype, entry.shape, entry.extents),):
        stored = sum(extent.length for extent in extents)
        expected = dtype.stored_size(math.prod(shape)) if dtype is not None else stored
        widened = dtype is not None and dtype.name == "BFloat16" and stored == 2 * expected
        makes_sense &= min(shape, default=0) >= 0 and (stored == expected or widened)
    if not makes_sense or position > entry.stop:
        raise StaleIndex(
            "the index claims what no file can hold; delete it or rebuild it (lazyckpt index --force)",
            parameter=entry.name,
            file=source.name,
        )


def _is_sound(entry: Entry, size: int) -> bool:
    """A fast `validate_bounds` for a tensor in one piece; False leaves it to the general rule."""
    (offset, length), dtype, shape = entry.extents[0], entry.dtype, entry.shape
    inside = 0 <= entry.start <= offset <= offset + length <= entry.stop <= size
    return inside and dtype is not None and min(shape, default=0) >= 0 and length == dtype.stored_size(math.prod(shape))
