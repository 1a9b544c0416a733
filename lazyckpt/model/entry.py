"""Index entries: where the bytes of a parameter are, and how to interpret them.

Every `Entry` has been validated: its extents lie inside the source, and their lengths add up to shape x itemsize (see
`nbytes` for the exceptions of the formats). Entries are named tuples and not dataclasses, because an index of a million
parameters creates a million of them, and tuples are created faster.
"""

from __future__ import annotations

import math
import struct
from typing import Final, NamedTuple

from lazyckpt.model.dtypes import DType

TENSOR = "tensor"
STRING = "string"
MAP = "map"
REFUSED = "refused"
_EXTENT: Final = struct.Struct("<QQ")
MAP_PARTS: Final = ("keys", "values", "status")  # the arrays of a map parameter, in file order


class Extent(NamedTuple):
    """A contiguous range of bytes in a source."""

    offset: int
    length: int


class Array(NamedTuple):
    """One of the arrays of a map parameter; `MAP_PARTS` names them."""

    dtype: DType
    shape: tuple[int, ...]
    extents: tuple[Extent, ...]


class Entry(NamedTuple):
    """One parameter of a file: its location and type, not its value.

    Attributes:
        name: the parameter's name, exactly as in the file.
        kind: `tensor`, `string`, `map`, or `refused` (the header is well-formed, but no value can match it).
        dtype: the element type of a tensor, else None.
        shape: the dimensions of a tensor; `()` for scalars and for all other kinds.
        extents: where the content is, in order; several if a large value was written in slices.
        start: first byte of the parameter's own header.
        stop: first byte after the parameter.
        arrays: the arrays of a map.
        reason: why a `refused` entry is refused.
        digest: a blake2b digest of the content if the index was built with digests, else empty.
        apart: length of the header, from `start` on, if it is stored apart from the content (as in a safetensors
            file); else 0.
    """

    name: str
    kind: str
    dtype: DType | None
    shape: tuple[int, ...]
    extents: tuple[Extent, ...]
    start: int
    stop: int
    arrays: tuple[Array, ...] = ()
    reason: str = ""
    digest: bytes = b""
    apart: int = 0

    @property
    def offset(self) -> int:
        """The offset of its first byte, the sort key for reading in file order."""
        return self.extents[0].offset if self.apart and self.extents else self.start

    @property
    def stored(self) -> int:
        """Bytes of the content in the file."""
        if len(self.extents) == 1 and not self.arrays:
            return self.extents[0].length
        return sum(extent.length for extent in self.all_extents)

    @property
    def nbytes(self) -> int:
        """Bytes of the value in memory.

        Equal to `stored` with two exceptions: bfloat16 that old MindSpore versions stored as float32 (twice the size
        in the file); and elements narrower than a byte (packed in the file).
        """
        if self.kind == TENSOR and self.dtype is not None:
            return math.prod(self.shape) * self.dtype.itemsize
        return self.stored

    @property
    def all_extents(self) -> tuple[Extent, ...]:
        """All extents of the value: those of its arrays if it is a map."""
        if self.arrays:
            return tuple(extent for array in self.arrays for extent in array.extents)
        return self.extents


def moved(entry: Entry, by: int) -> Entry:
    """The entry with all offsets increased by `by`."""
    if not by:
        return entry
    arrays = tuple(array._replace(extents=_moved(array.extents, by)) for array in entry.arrays)
    extents = _moved(entry.extents, by)
    return entry._replace(extents=extents, start=entry.start + by, stop=entry.stop + by, arrays=arrays)


def _moved(extents: tuple[Extent, ...], by: int) -> tuple[Extent, ...]:
    return tuple(Extent(offset + by, length) for offset, length in extents)


class Plain(NamedTuple):
    """A tensor with one extent, in the cheapest form: what a scan yields most (see `entry_of`).

    Validated like an `Entry`; `name` is valid UTF-8; `apart` is as in `Entry`.
    """

    name: bytes
    dtype: DType
    shape: tuple[int, ...]
    offset: int
    length: int
    start: int
    stop: int
    apart: int = 0


class PackedArray(NamedTuple):
    """An `Array` with packed extents."""

    dtype: DType
    shape: tuple[int, ...]
    extents: bytes


class Packed(NamedTuple):
    """A value of any kind with packed extents: (offset u64, length u64) each, little-endian, as records hold them.

    A file may consist of slices of one byte each; an `Extent` of a slice takes ten times its memory in the file.
    Validated like an `Entry`; `name` is valid UTF-8.
    """

    name: bytes
    kind: str
    dtype: DType | None
    shape: tuple[int, ...]
    extents: bytes
    start: int
    stop: int
    arrays: tuple[PackedArray, ...] = ()
    reason: str = ""


Found = Plain | Packed | Entry  # what a scan yields


pack_extent = _EXTENT.pack


def unpacked(extents: bytes) -> tuple[Extent, ...]:
    """Packed extents as `Extent`s."""
    return tuple(map(Extent._make, _EXTENT.iter_unpack(extents)))


def entry_of(found: Found) -> Entry:
    """A scanned value as an `Entry`."""
    if isinstance(found, Entry):
        return found
    if isinstance(found, Packed):
        arrays = tuple(Array(each.dtype, each.shape, unpacked(each.extents)) for each in found.arrays)
        extents = unpacked(found.extents)
        return Entry(
            str(found.name, "utf-8"), found.kind, found.dtype, found.shape, extents, found.start, found.stop, arrays,
            found.reason,
        )  # fmt: skip
    name, dtype, shape, offset, length, start, stop, apart = found
    return Entry(str(name, "utf-8"), TENSOR, dtype, shape, (Extent(offset, length),), start, stop, apart=apart)


class Fingerprint(NamedTuple):
    """The identity of a file's version: size, mtime and a hash of both ends. Costs a stat and two small reads."""

    size: int
    mtime_ns: int
    sample: bytes


def is_plain(entry: Entry) -> bool:
    """Whether the bytes in the file are exactly those of the array: neither widened nor packed."""
    return not entry.extents or entry.stored == entry.nbytes
