"""MindSpore's `.ckpt` format: find the parameters in a protobuf stream, without payloads.

Strategy: a file is a sequence of Values (see `proto/checkpoint.proto`), each a tag and a tensor or a map:

    0A len                            Checkpoint.value
       0A len tag
       12 len                         Value.tensor      (1A len ( 0A len TensorProto )* for a map)
          08 dim ...  12 len type  1A len content

`scan` walks them once, skips the contents, joins adjacent Values of one tag (MindSpore writes a value over 512 MiB in
slices) and checks every claim (`shape x itemsize == length`) before it yields an Entry. A Value in exactly the form
that MindSpore writes takes the fast path (`ckpt_fast_path`). Any other encoding that protobuf allows takes the general
walk, with the same result. A well-formed header with impossible claims becomes a *refused* entry, so that the other
parameters still load. Bytes that are not a checkpoint raise `CorruptFile`.

Duplicates are yielded as they come. MindSpore's rule, which the index follows: the last value wins and takes the first
one's position.
"""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from lazyckpt.errors import CorruptFile, LazyCkptError
from lazyckpt.formats.ckpt_encoder import TRAILER, TRAILER_MARK
from lazyckpt.formats.ckpt_fast_path import TAG, VALUE, matches_canonical, matches_uniform, recogniser
from lazyckpt.formats.ckpt_header import TensorHeader, impossible, merge_tensor, read_text, stale
from lazyckpt.formats.protobuf_wire import Buffer, fields, read_varint
from lazyckpt.model.dtypes import BY_NUMPY_NAME, IN_CKPT
from lazyckpt.model.entry import MAP, REFUSED, STRING, TENSOR, Array, Entry, Extent, Plain, entry_of
from lazyckpt.sources.base import Source
from lazyckpt.sources.window import as_buffer

__all__ = [
    "Trailer", "checksums", "find", "find_whole", "header_extents", "matches_uniform", "metadata", "scan",
    "trailer", "verify_header", "verify_header_in",
]  # fmt: skip

_CHUNK: Final = 2**20

# Field keys: number << 3 | wire type.
_TENSOR: Final = 0x12
_MAP: Final = 0x1A
_MAP_TENSOR: Final = 0x0A


class Trailer(NamedTuple):
    """The end of the protobuf stream, and the crc32 after it (with `crc_check=True` only)."""

    body: int
    crc: int | None


class _Value(NamedTuple):
    """A Value, or several adjacent ones of one tag (in UTF-8) and one kind."""

    tag: bytes
    is_map: bool
    pieces: list[list[TensorHeader]]
    start: int
    stop: int


def trailer(source: Source) -> Trailer:
    """Find the end of the protobuf stream, and the crc32 after it (None without a trailer).

    Cost: reads 17 bytes.
    """
    if source.size >= TRAILER:
        end = bytes(source.read(source.size - TRAILER, TRAILER))
        if end.startswith(TRAILER_MARK):
            return Trailer(source.size - TRAILER, int.from_bytes(end[len(TRAILER_MARK) :], "big"))
    return Trailer(source.size, None)


def scan(source: Source) -> Iterator[Entry]:
    """Yield every parameter in file order.

    Cost: reads headers only; O(parameters) time, O(1) memory.

    Raises:
        CorruptFile: the bytes are not a checkpoint. All parameters before the damage are yielded before the error.
    """
    return map(entry_of, find(source))


def find(source: Source) -> Iterator[Plain | Entry]:
    """`scan` for the index builder: tensors with one extent come as the cheaper `Plain`."""
    return _Scanner().found(as_buffer(source), 0, trailer(source).body)


def find_whole(source: Source) -> Iterator[Plain | Entry]:
    """`find` for a damaged file: a value that the end of the file cuts off comes refused, if its name is there.

    Raises:
        CorruptFile: as `scan`.
    """
    try:
        yield from find(source)
    except CorruptFile as error:
        name = _name_at(source, error.offset or 0)
        if name is not None:
            yield Entry(name, REFUSED, None, (), (), error.offset or 0, source.size, (), "the file ends in it")
        raise


def _name_at(source: Source, start: int) -> str | None:
    """The name of a Value that is longer than the file; None if there is none."""
    buffer, size = as_buffer(source), source.size
    with contextlib.suppress(CorruptFile, IndexError, UnicodeDecodeError):
        length, begin = read_varint(buffer, start + 1, size)
        name_length, name = read_varint(buffer, begin + 1, size)
        if (buffer[start], buffer[begin]) == (VALUE, TAG) and name + name_length <= size < begin + length:
            return bytes(buffer[name : name + name_length]).decode()
    return None


def metadata(source: Source) -> Mapping[str, str]:  # noqa: ARG001 (there is nothing to read)
    """Empty: a `.ckpt` has no metadata."""
    return {}


def checksums(source: Source) -> tuple[int | None, int]:
    """The crc32 stored in the trailer (None without a trailer), and the crc32 of the bytes.

    MindSpore leaves map parameters out of the checksum.

    Cost: reads the whole file, 1 MiB at a time.
    """
    body, stored = trailer(source)
    crc = position = 0
    for entry in [*(entry for entry in scan(source) if entry.kind == MAP), None]:
        stop = body if entry is None else entry.start
        while position < stop:
            piece = source.read(position, min(_CHUNK, stop - position))
            crc = zlib.crc32(piece, crc)
            position += len(piece)
        position = stop if entry is None else entry.stop
    return stored, crc


def verify_header(source: Source, entry: Entry) -> None:
    """Verify that the file has the entry's header at the entry's offset.

    The header is parsed again and must give an equal entry, so an old or forged index cannot lead to the bytes of
    another tensor.

    Cost: reads the header again (about 60 bytes) and no payload.

    Raises:
        StaleIndex: the bytes there are not this entry's header.
    """
    if not 0 <= entry.start <= entry.stop <= source.size:
        raise stale(entry)
    # An addressable source is a buffer as it is; every first look at a value comes here.
    verify_header_in(source.read(0, source.size) if source.is_addressable else as_buffer(source), entry)


def verify_header_in(buffer: Buffer, entry: Entry) -> None:
    """`verify_header` on bytes that have been read. `buffer` is indexed by source offsets, in the header only.

    Raises:
        StaleIndex: the bytes there are not this entry's header.
    """
    if matches_canonical(buffer, entry):
        return
    found: list[Entry] = []
    try:
        for other in map(entry_of, _Scanner().found(buffer, entry.start, entry.stop)):
            found.append(other)
            if len(found) > 1:
                break
    except (LazyCkptError, IndexError):
        found = []
    if len(found) != 1 or found[0] != entry._replace(digest=b""):
        raise stale(entry)


def header_extents(entry: Entry) -> list[Extent]:
    """The ranges of an entry that are not content: those that `verify_header_in` reads."""
    gaps, position = [], entry.start
    for offset, length in sorted(entry.all_extents):
        gaps.append(Extent(position, offset - position))
        position = offset + length
    gaps.append(Extent(position, entry.stop - position))
    return [gap for gap in gaps if gap.length]


class _Scanner:
    """One pass over a stream; remembers the current tag for error messages."""

    def __init__(self) -> None:
        self.tag: str | None = None

    def found(self, buffer: Buffer, position: int, end: int) -> Iterator[Plain | Entry]:
        """Join adjacent Values of one tag and check their claims."""
        pending: Plain | _Value | None = None
        recognise = recogniser(buffer)
        count = 0
        value: Plain | _Value | _Skipped | None
        try:
            while position < end:
                value = recognise(position, end)
                if value is None:
                    value = self._general(buffer, position, end)
                    if isinstance(value, _Skipped):
                        position = value.stop
                        continue
                position = value.stop
                if pending is not None:
                    if pending[0] == value[0]:
                        joined = _join(buffer, pending, value)
                        if joined is not None:
                            pending = joined
                            continue
                    count += 1
                    yield pending if isinstance(pending, Plain) else _entry(pending)
                pending = value
            if pending is not None:
                yield pending if isinstance(pending, Plain) else _entry(pending)
        except CorruptFile as error:
            last = pending if pending is None or isinstance(pending, Plain) else _entry(pending)
            whole = (
                "nothing before it: it is not a checkpoint, or is damaged from its beginning"
                if last is None
                else f"after {count + 1:,} whole parameters, the last {entry_of(last).name!r}"
                if isinstance(last, Plain) or last.kind != REFUSED
                else f"after {count:,} whole parameters, in slices of {last.name!r}"
            )
            error.what = f"{error.what}; {whole}"
            error.parameter = self.tag
            if last is not None:
                yield last
            raise

    def _general(self, buffer: Buffer, position: int, end: int) -> _Value | _Skipped:
        self.tag = None
        field = next(fields(buffer, position, end))
        if field.key != VALUE:
            return _Skipped(field.end)
        return self.value(buffer, field.start, field.begin, field.end)

    def value(self, buffer: Buffer, start: int, begin: int, end: int) -> _Value:
        """Parse a Value in any encoding that protobuf allows."""
        self.tag = ""
        tag, is_map = "", True
        tensors: list[TensorHeader] = []
        for field in fields(buffer, begin, end):
            if field.key == TAG:
                self.tag = tag = read_text(buffer, field.begin, field.end)
            elif field.key == _TENSOR:
                if is_map:
                    is_map, tensors = False, [TensorHeader()]
                merge_tensor(buffer, field.begin, field.end, tensors[0])
            elif field.key == _MAP:
                if not is_map:
                    is_map, tensors = True, []
                for inner in fields(buffer, field.begin, field.end):
                    if inner.key == _MAP_TENSOR:
                        tensors.append(TensorHeader())
                        merge_tensor(buffer, inner.begin, inner.end, tensors[-1])
        return _Value(tag.encode(), is_map, [tensors], start, end)


class _Skipped(NamedTuple):
    """An unknown field between Values: protobuf parsers ignore it."""

    stop: int


def _join(buffer: Buffer, first: Plain | _Value, second: Plain | _Value) -> _Value | None:
    """Join two adjacent Values of one tag. None if their kinds differ: then the second replaces the first.

    The list of pieces grows in place, so that n slices take O(n) time.
    """
    one, two = _opened(buffer, first), _opened(buffer, second)
    if one.is_map != two.is_map:
        return None
    one.pieces.extend(two.pieces)
    return one._replace(stop=two.stop)


def _opened(buffer: Buffer, value: Plain | _Value) -> _Value:
    """A Value in its general form; parses a value that took the fast path again."""
    if isinstance(value, _Value):
        return value
    field = next(fields(buffer, value.start, value.stop))
    return _Scanner().value(buffer, field.start, field.begin, field.end)


def _entry(value: _Value) -> Entry:
    """Check the claims of a value; a refused entry if they are impossible."""
    if value.is_map:
        return _map_entry(value)
    last = value.pieces[-1][0]
    extents = tuple(piece[0].content for piece in value.pieces if piece[0].content.length)
    stored = sum(extent.length for extent in extents)
    if last.type == "str":
        if stored == 0 or stored % 4:
            return _refuse(value, f"a string of {stored:,} bytes: UTF-32 needs a positive multiple of 4")
        return Entry(value.tag.decode(), STRING, None, (), extents, value.start, value.stop)
    dtype = IN_CKPT.get(last.type)
    if dtype is None:
        return _refuse(value, f"the dtype {last.type[:64]!r} is unknown (known: {', '.join(IN_CKPT)}, str)")
    fault = impossible(last.dims, dtype)
    if fault:
        return _refuse(value, fault)
    # Old MindSpore versions wrote the shape of a scalar as [0]. An empty vector differs: it has no content.
    shape = () if last.dims == [0] and stored else tuple(last.dims)
    expected = math.prod(shape) * dtype.itemsize
    as_float32 = dtype.name == "BFloat16" and stored == 2 * expected
    if stored != expected and not as_float32:
        return _refuse(value, f"shape {shape} of {dtype} needs {expected:,} bytes of content, the file has {stored:,}")
    return Entry(value.tag.decode(), TENSOR, dtype, shape, extents, value.start, value.stop)


def _map_entry(value: _Value) -> Entry:
    """The entry of a map; the slices of its arrays are joined along the first axis."""
    counts = {len(piece) for piece in value.pieces}
    if len(counts) != 1:
        return _refuse(value, f"the slices of a map hold {sorted(counts)} arrays, each should hold as many")
    arrays = []
    for pieces in zip(*value.pieces, strict=True):
        last = pieces[-1]
        dtype = BY_NUMPY_NAME.get(last.type)
        if dtype is None or not dtype.in_ckpt:
            return _refuse(value, f"the dtype {last.type[:64]!r} of a map is unknown")
        if not all(piece.dims for piece in pieces):
            return _refuse(value, "an array of a map has no dimensions")
        shape = (sum(piece.dims[0] for piece in pieces), *last.dims[1:])
        fault = impossible(list(shape), dtype) or impossible([min(piece.dims[0] for piece in pieces)], dtype)
        if fault:
            return _refuse(value, fault)
        extents = tuple(piece.content for piece in pieces if piece.content.length)
        stored, expected = sum(extent.length for extent in extents), math.prod(shape) * dtype.itemsize
        if stored != expected:
            return _refuse(
                value, f"shape {shape} of {dtype} in a map needs {expected:,} bytes, the file has {stored:,}"
            )
        arrays.append(Array(dtype, shape, extents))
    return Entry(value.tag.decode(), MAP, None, (), (), value.start, value.stop, tuple(arrays))


def _refuse(value: _Value, reason: str) -> Entry:
    return Entry(value.tag.decode(), REFUSED, None, (), (), value.start, value.stop, (), reason)
