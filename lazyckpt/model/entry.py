"""Frozen values that pass between the rooms: where a parameter's bytes are, and what they mean.

An `Entry` that exists is true: its extents lie inside the source and their lengths equal shape x itemsize (see
`nbytes` for the two exceptions of the format). They are named tuples, not dataclasses, because an index of a million
parameters makes a million of them.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from lazyckpt.model.dtypes import DType

TENSOR = "tensor"
STRING = "string"
MAP = "map"
REFUSED = "refused"
MAP_PARTS: Final = ("keys", "values", "status")  # the arrays of a map parameter, in file order


class Extent(NamedTuple):
    """A run of bytes in a source."""

    offset: int
    length: int


class Array(NamedTuple):
    """One of the arrays of a map parameter; `MAP_PARTS` names them."""

    dtype: DType
    shape: tuple[int, ...]
    extents: tuple[Extent, ...]


class Entry(NamedTuple):
    """One parameter, found and not read.

    Attributes:
        name: the tag as it stands in the file.
        kind: `tensor`, `string`, `map`, or `refused` (the header is well-formed and its claims are impossible).
        dtype: the element type of a tensor, else None.
        shape: the dimensions of a tensor; `()` for scalars and for everything else.
        extents: where the content is, in order; more than one when a large value was written in slices.
        start: first byte of the parameter's own header.
        stop: first byte after the parameter.
        arrays: the arrays of a map.
        reason: why a `refused` entry is refused.
        digest: a blake2b digest of the content if one was asked for when the index was built, else empty.
        apart: bytes of the header from `start` on, where it stands apart from the content (in a safetensors file);
            else 0.
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
    def place(self) -> int:
        """Where its bytes begin: the order in which a file is best read."""
        return self.extents[0].offset if self.apart and self.extents else self.start

    @property
    def stored(self) -> int:
        """Bytes that the content takes in the file."""
        if len(self.extents) == 1 and not self.arrays:
            return self.extents[0].length
        return sum(extent.length for extent in self.all_extents)

    @property
    def nbytes(self) -> int:
        """Bytes of the value in memory.

        Equal to `stored`, but for bfloat16 that old MindSpore versions stored as float32 (twice as many in the file),
        for elements narrower than a byte (of which several share one in the file), and for an empty one-dimensional
        tensor, which the format cannot tell from a scalar (none in the file).
        """
        if self.kind == TENSOR and self.dtype is not None:
            return math.prod(self.shape) * self.dtype.itemsize
        return self.stored

    @property
    def all_extents(self) -> tuple[Extent, ...]:
        """The extents of a value of any kind."""
        if self.arrays:
            return tuple(extent for array in self.arrays for extent in array.extents)
        return self.extents


def moved(entry: Entry, by: int) -> Entry:
    """The same entry, if the bytes of its file began `by` bytes further on."""
    if not by:
        return entry
    arrays = tuple(array._replace(extents=_moved(array.extents, by)) for array in entry.arrays)
    extents = _moved(entry.extents, by)
    return entry._replace(extents=extents, start=entry.start + by, stop=entry.stop + by, arrays=arrays)


def _moved(extents: tuple[Extent, ...], by: int) -> tuple[Extent, ...]:
    return tuple(Extent(offset + by, length) for offset, length in extents)


class Plain(NamedTuple):
    """A tensor in one piece, as a walk finds it: the common case, in its cheapest form (see `entry_of`).

    As true as an `Entry`; `name` is UTF-8, and proven to be; `apart` is an `Entry`'s.
    """

    name: bytes
    dtype: DType
    shape: tuple[int, ...]
    offset: int
    length: int
    start: int
    stop: int
    apart: int = 0


def entry_of(found: Plain | Entry) -> Entry:
    """The entry of what a walk found."""
    if isinstance(found, Entry):
        return found
    name, dtype, shape, offset, length, start, stop, apart = found
    return Entry(str(name, "utf-8"), TENSOR, dtype, shape, (Extent(offset, length),), start, stop, apart=apart)


class Fingerprint(NamedTuple):
    """What tells a file from another and from its own later versions, at the cost of a stat and two small reads."""

    size: int
    mtime_ns: int
    sample: bytes


def is_plain(entry: Entry) -> bool:
    """Whether the bytes of the file are those of the array: nothing is widened or packed."""
    return not entry.extents or entry.stored == entry.nbytes
