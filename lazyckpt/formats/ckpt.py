"""MindSpore's `.ckpt` format: find the parameters in a protobuf stream, without payloads.

Strategy: a file is a sequence of Values (see `proto/checkpoint.proto`), each a tag and a tensor or a map:

    0A len                            Checkpoint.value
       0A len tag
       12 len                         Value.tensor      (1A len ( 0A len TensorProto )* for a map)
          08 dim ...  12 len type  1A len content

`scan` walks them once, skips the contents, joins adjacent Values of one tag (MindSpore writes a value over 512 MiB in
slices) and checks every claim (`shape x itemsize == length`; see `ckpt_values`) before it yields an Entry. A Value in
exactly the form that MindSpore writes takes the fast path (`ckpt_fast_path`). Any other encoding that protobuf allows
takes the general walk, with the same result. A well-formed header with impossible claims becomes a *refused* entry, so
that the other parameters still load. Bytes that are not a checkpoint raise `CorruptFile`.

Duplicates are yielded as they come. MindSpore's rule, which the index follows: the last value wins and takes the first
one's position.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from lazyckpt.errors import CorruptFile, LazyCkptError
from lazyckpt.formats.ckpt_encoder import TRAILER, TRAILER_MARK
from lazyckpt.formats.ckpt_fast_path import TAG, VALUE, matches_canonical, matches_header, matches_uniform, recogniser
from lazyckpt.formats.ckpt_header import TensorHeader, merge_tensor, read_text, stale
from lazyckpt.formats.ckpt_values import MOST_ARRAYS, Joined, Slice, join, judged
from lazyckpt.formats.protobuf_wire import Buffer, Field, fields, read_varint
from lazyckpt.formats.zero_tail import explain
from lazyckpt.model.entry import MAP, REFUSED, Entry, Extent, Found, Packed, Plain, entry_of
from lazyckpt.sources.base import Source
from lazyckpt.sources.window import SparseBuffer, as_buffer, pieces_of

__all__ = [
    "Trailer", "checksums", "find", "find_whole", "header_extents", "matches_uniform", "metadata", "scan",
    "trailer", "verify_header", "verify_header_in",
]  # fmt: skip

LONGEST_HEADER: Final = 2**20  # bytes of unknown fields beyond which a header is parsed in place

# Field keys: number << 3 | wire type.
_TENSOR: Final = 0x12
_MAP: Final = 0x1A
_MAP_TENSOR: Final = 0x0A
_SHORTEST: Final = 13  # bytes of the shortest tensor, its name empty, behind the Value's length


class Trailer(NamedTuple):
    """The end of the protobuf stream, and the crc32 after it (with `crc_check=True` only)."""

    body: int
    crc: int | None


def trailer(source: Source) -> Trailer:
    """Find the end of the protobuf stream, and the crc32 after it (None without a trailer).

    Cost: reads 17 bytes.
    """
    if source.size >= TRAILER:
        end = bytes(source.snapshot(source.size - TRAILER, TRAILER))
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


def find(source: Source) -> Iterator[Plain | Packed]:
    """`scan` for the index builder: tensors with one extent come as the cheaper `Plain`."""
    return _Scanner(source).found(as_buffer(source), 0, trailer(source).body)


def find_whole(source: Source) -> Iterator[Found]:
    """`find` for a damaged file: a value that the end of the file cuts off comes refused, if its name is there.

    Raises:
        CorruptFile: as `scan`.
    """
    fault = CorruptFile  # as in `found`
    try:
        yield from find(source)
    except fault as error:
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
        for piece in pieces_of(source, position, stop - position):
            crc = zlib.crc32(piece, crc)
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
    if not source.window:
        verify_header_in(source.read(0, source.size), entry)
        return
    start, extents = entry.start, entry.extents
    if len(extents) == 1:
        # The usual form; every first use of a value comes here.
        offset, length = extents[0]
        if 0 < offset - start <= LONGEST_HEADER and offset + length == entry.stop and not entry.arrays:
            header = source.snapshot(start, offset - start)
            if not matches_header(header, entry):
                verify_header_in(SparseBuffer([(start, header)]), entry)
            return
    gaps = header_extents(entry)
    is_short = sum(gap.length for gap in gaps) <= LONGEST_HEADER and min((gap.length for gap in gaps), default=0) >= 0
    pieces = [(offset, source.snapshot(offset, length)) for offset, length in gaps] if is_short else []
    verify_header_in(SparseBuffer(pieces) if is_short else as_buffer(source), entry)


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

    def __init__(self, source: Source | None = None) -> None:
        """Take the source, if errors are to say whether zeros at its end are the cause."""
        self.tag: str | None = None
        self._source = source

    def found(self, buffer: Buffer, position: int, end: int) -> Iterator[Plain | Packed]:
        """Join adjacent Values of one tag and check their claims."""
        pending: Plain | Packed | Slice | Joined | None = None
        recognise = recogniser(buffer)
        walk: Iterator[Field] | None = None
        count = walk_from = 0
        value: Plain | Packed | Slice | None
        fault = CorruptFile  # a name of its own: a walk that is left in a global outlives this module
        try:
            while position < end:
                # After a Value in another form, the next one may be too short for a tensor, or no Value: files may have
                # nothing else.
                if walk is None:
                    value = recognise(position, end)
                elif buffer[position] != VALUE:
                    value = None
                elif position + 1 < end and buffer[position + 1] < _SHORTEST:
                    value = _named(buffer, position, end)
                else:
                    value = recognise(position, end)
                if value is not None:
                    walk, position = walk if isinstance(value, Slice) else None, value.stop
                else:
                    if walk is None or walk_from != position:
                        walk = fields(buffer, position, end)
                    self.tag = None
                    key, start, begin, position, _ = next(walk)
                    walk_from = position
                    if key != VALUE:
                        continue
                    value = self.value(buffer, start, begin, position)
                if pending is not None:
                    if pending.name == value.name:
                        joined = join(pending, value)
                        if joined is not None:
                            pending = joined
                            continue
                    count += 1
                    yield judged(pending)
                pending = value
            if pending is not None:
                yield judged(pending)
        except fault as error:
            last = None if pending is None else judged(pending)
            whole = (
                "nothing before it: it is not a checkpoint, or is damaged from its beginning"
                if last is None
                else f"after {count + 1:,} whole parameters, the last {last.name.decode()!r}"
                if isinstance(last, Plain) or last.kind != REFUSED
                else f"after {count:,} whole parameters, in slices of {last.name.decode()!r}"
            )
            error.what = f"{error.what}; {whole}"
            error.parameter = self.tag
            if self._source is not None:
                explain(self._source, error, error.offset or 0, count, last)
            if last is not None:
                yield last
            raise

    def value(self, buffer: Buffer, start: int, begin: int, end: int) -> Slice:
        """Parse a Value in any encoding that protobuf allows."""
        self.tag = ""
        tag, is_map = b"", True
        tensors: list[TensorHeader] = []
        for key, _, first, last, _ in fields(buffer, begin, end) if begin < end else ():
            if key == TAG:
                self.tag = read_text(buffer, first, last) if first < last else ""
                tag = self.tag.encode()
            elif key == _TENSOR:
                if is_map:
                    is_map, tensors = False, [TensorHeader()]
                if first < last:
                    merge_tensor(buffer, first, last, tensors[0])
            elif key == _MAP:
                if not is_map:
                    is_map, tensors = True, []
                if first < last:
                    _add_arrays(buffer, first, last, tensors)
        return Slice(tag, is_map, tensors, start, end)


def _named(buffer: Buffer, position: int, end: int) -> Slice | None:
    """A short Value that is empty, or nothing but its name; None if it is anything else."""
    length = buffer[position + 1]
    if not length:
        return Slice(b"", True, [], position, position + 2)
    stop = position + 2 + length
    if length < 2 or stop > end:
        return None
    head = bytes(buffer[position:stop])
    if head[2] != TAG or head[3] != len(head) - 4 or not head.isascii():
        return None
    return Slice(head[4:], True, [], position, stop)


def _add_arrays(buffer: Buffer, begin: int, end: int, tensors: list[TensorHeader]) -> None:
    """Append the arrays of a map; of those beyond the maximum one is kept, so that the excess is noticed."""
    for key, _, first, last, _ in fields(buffer, begin, end):
        if key != _MAP_TENSOR:
            continue
        if len(tensors) <= MOST_ARRAYS:
            tensors.append(TensorHeader())
        if first < last:
            merge_tensor(buffer, first, last, tensors[-1] if len(tensors) <= MOST_ARRAYS else TensorHeader())
