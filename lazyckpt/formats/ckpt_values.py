"""The values of a `.ckpt`: adjacent Values of one name are joined, and their claims are checked.

MindSpore writes a tensor over 512 MiB in slices, each a Value with the full dims and type. The contents of all, in file
order, are the content; dims and type are the last one's. Files are not trusted: a value may consist of millions of
slices of one byte, or of maps of empty arrays. So extents are kept packed, limits are the first thing that is checked,
and nothing is kept of a value that is going to be refused.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Container, Iterable
from typing import Final, NamedTuple

from lazyckpt.formats.ckpt_header import STR, TensorHeader, impossible
from lazyckpt.model.dtypes import BY_NUMPY_NAME, IN_CKPT
from lazyckpt.model.entry import (
    MAP,
    MAP_PARTS,
    REFUSED,
    STRING,
    TENSOR,
    Packed,
    PackedArray,
    Plain,
    pack_extent,
    unpacked,
)  # fmt: skip

# Limits of one value, beyond which it is refused. MindSpore cuts tensors into slices of 512 MiB, so the largest has
# 8 TiB; it knows maps of up to three arrays.
MOST_SLICES: Final = 2**14
MOST_ARRAYS: Final = len(MAP_PARTS)

_TOO_MANY_ARRAYS: Final = f"a map of more than {MOST_ARRAYS} arrays"
_KNOWN: Final = frozenset({*IN_CKPT, STR})
_KNOWN_IN_MAPS: Final = frozenset(name for name, dtype in BY_NUMPY_NAME.items() if dtype.in_ckpt)
_SHOWN: Final = 64  # characters of an unknown dtype
_NO_ROWS: Final = -(2**64)  # in place of the first dimension of an array without dimensions


class Slice(NamedTuple):
    """One Value: its name in UTF-8, and its tensor or the arrays of its map (one more than the maximum, at most)."""

    name: bytes
    is_map: bool
    tensors: list[TensorHeader]
    start: int
    stop: int


class _Part:
    """A tensor, or an array of a map, joined from its slices: the claims of the last one, and all extents."""

    __slots__ = ("extents", "fewest", "last", "rows", "unknown")

    def __init__(self) -> None:
        self.last = TensorHeader()
        self.extents = array("Q")  # offset, length, offset, length, …
        self.unknown: str | None = None  # the first unknown dtype of any slice
        self.rows = 0  # of all slices: the sum of their first dimensions
        self.fewest = 1  # of any slice; negative if one has no dimensions

    def add(self, header: TensorHeader, known: Container[str]) -> None:
        """Add a slice."""
        self.last = header
        if header.type not in known and self.unknown is None:
            self.unknown = header.type[:_SHOWN]
        rows = header.dims[0] if header.dims else _NO_ROWS
        self.rows, self.fewest = self.rows + rows, min(self.fewest, rows)
        offset, length = header.content
        if length and self.unknown is None:
            self.extents.append(offset)
            self.extents.append(length)

    @property
    def stored(self) -> int:
        """Bytes of the content."""
        return sum(self.extents[1::2])

    def packed(self) -> bytes:
        """The extents, as a `Packed` has them."""
        if sys.byteorder == "big":
            self.extents.byteswap()
        return self.extents.tobytes()


class Joined:
    """A Value, or several adjacent ones of one tag and one kind, joined.

    Attributes:
        name: the tag in UTF-8.
        is_map: whether it is a map.
        start: first byte of the first Value.
        stop: first byte after the last one.
        slices: how many Values there are.
        fault: why they cannot be joined.
        parts: the tensor, or the arrays of a map.
    """

    __slots__ = ("fault", "is_map", "name", "parts", "slices", "start", "stop")

    def __init__(self, first: Slice) -> None:
        self.name, self.is_map, self.start = first.name, first.is_map, first.start
        self.slices, self.fault = 0, ""
        self.parts = [_Part() for _ in first.tensors]
        self.add(first)

    def add(self, piece: Slice) -> None:
        """Add a slice. Nothing of it is kept once the value is known to be refused."""
        self.stop = piece.stop
        self.slices += 1
        if self.fault:
            return
        tensors = piece.tensors
        if self.slices > MOST_SLICES:
            self.fault = f"it is in more than {MOST_SLICES:,} slices"
        elif len(tensors) > MOST_ARRAYS:
            self.fault = _TOO_MANY_ARRAYS
        elif len(tensors) != len(self.parts):
            counts = sorted({len(self.parts), len(tensors)})
            self.fault = f"the slices of a map hold {counts} arrays, each should hold as many"
        else:
            known = _KNOWN_IN_MAPS if self.is_map else _KNOWN
            for part, header in zip(self.parts, tensors, strict=True):
                part.add(header, known)
        if self.fault:
            self.parts = []


def join(first: Plain | Packed | Slice | Joined, second: Plain | Packed | Slice) -> Joined | None:
    """Join two adjacent Values of one tag. None if their kinds differ: then the second replaces the first.

    The first grows in place, so that n slices take O(n) time.
    """
    piece = _slice_of(second)
    if isinstance(first, Joined):
        if first.is_map != piece.is_map:
            return None
        joined = first
    else:
        start = _slice_of(first)
        if start.is_map != piece.is_map:
            return None
        joined = Joined(start)
    joined.add(piece)
    return joined


def _slice_of(value: Plain | Packed | Slice) -> Slice:
    """A Value that took the fast path in its general form."""
    if isinstance(value, Slice):
        return value
    header = TensorHeader()
    header.dims, header.type = list(value.shape), STR if value.dtype is None else value.dtype.name
    if isinstance(value, Plain):
        header.content = (value.offset, value.length)
    elif value.extents:
        (header.content,) = unpacked(value.extents)
    return Slice(value.name, False, [header], value.start, value.stop)


def judged(pending: Plain | Packed | Slice | Joined) -> Plain | Packed:
    """Check the claims of a value; it is refused if they are impossible."""
    if isinstance(pending, (Plain, Packed)):
        return pending
    if isinstance(pending, Slice):
        if not pending.is_map:
            header = pending.tensors[0]
            unknown = None if header.type in _KNOWN else header.type[:_SHOWN]
            offset, length = header.content
            return _tensor(pending, header, unknown, pack_extent(offset, length) if length else b"", length)
        if len(pending.tensors) > MOST_ARRAYS:
            return _refuse(pending, _TOO_MANY_ARRAYS)
        return _map(pending, map(_Array.of_header, pending.tensors))
    if pending.fault:
        return _refuse(pending, pending.fault)
    if pending.is_map:
        return _map(pending, map(_Array.of_part, pending.parts))
    (part,) = pending.parts
    if part.last.type == STR and part.unknown is None and pending.slices > 1:
        return _refuse(pending, f"a string in {pending.slices:,} pieces: one cannot be written so")
    return _tensor(pending, part.last, part.unknown, part.packed(), part.stored)


def _tensor(value: Slice | Joined, last: TensorHeader, unknown: str | None, extents: bytes, stored: int) -> Packed:
    """A tensor or a string, by the header of its last slice."""
    if unknown is not None:
        return _refuse(value, f"the dtype {unknown!r} is unknown")
    if last.type == STR:
        if stored == 0 or stored % 4:
            return _refuse(value, f"a string of {stored:,} bytes: UTF-32 needs a positive multiple of 4")
        return Packed(value.name, STRING, None, (), extents, value.start, value.stop)
    dtype = IN_CKPT[last.type]
    fault = impossible(last.dims, dtype)
    if fault:
        return _refuse(value, fault)
    # Old MindSpore versions wrote the shape of a scalar as [0]. An empty vector differs: it has no content.
    shape = () if last.dims == [0] and stored else tuple(last.dims)
    expected = math.prod(shape) * dtype.itemsize
    as_float32 = dtype.name == "BFloat16" and stored == 2 * expected
    if stored != expected and not as_float32:
        return _refuse(value, f"shape {shape} of {dtype} needs {expected:,} bytes of content, the file has {stored:,}")
    return Packed(value.name, TENSOR, dtype, shape, extents, value.start, value.stop)


class _Array(NamedTuple):
    """An array of a map: the claims of its last slice, and the sums over all of them; see `_Part`."""

    last: TensorHeader
    unknown: str | None
    rows: int
    fewest: int
    extents: bytes
    stored: int

    @classmethod
    def of_part(cls, part: _Part) -> _Array:
        """An array in several slices."""
        return cls(part.last, part.unknown, part.rows, part.fewest, part.packed(), part.stored)

    @classmethod
    def of_header(cls, header: TensorHeader) -> _Array:
        """An array in one slice."""
        unknown = None if header.type in _KNOWN_IN_MAPS else header.type[:_SHOWN]
        rows = header.dims[0] if header.dims else _NO_ROWS
        offset, length = header.content
        return cls(header, unknown, rows, rows, pack_extent(offset, length) if length else b"", length)


def _map(value: Slice | Joined, joined: Iterable[_Array]) -> Packed:
    """A map; the slices of its arrays are joined along the first axis."""
    arrays = []
    for last, unknown, rows, fewest, extents, stored in joined:
        if unknown is not None:
            return _refuse(value, f"the dtype {unknown!r} of a map is unknown")
        if fewest == _NO_ROWS:
            return _refuse(value, "an array of a map has no dimensions")
        dtype = BY_NUMPY_NAME[last.type]
        shape = (rows, *last.dims[1:])
        fault = impossible(list(shape), dtype) or impossible([fewest], dtype)
        if fault:
            return _refuse(value, fault)
        expected = math.prod(shape) * dtype.itemsize
        if stored != expected:
            return _refuse(
                value, f"shape {shape} of {dtype} in a map needs {expected:,} bytes, the file has {stored:,}"
            )
        arrays.append(PackedArray(dtype, shape, extents))
    return Packed(value.name, MAP, None, (), b"", value.start, value.stop, tuple(arrays))


def _refuse(value: Slice | Joined, reason: str) -> Packed:
    return Packed(value.name, REFUSED, None, (), b"", value.start, value.stop, (), reason)
