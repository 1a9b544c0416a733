"""How entries are written as bytes.

All numbers are little-endian. A record is

    kind u8 | dtype u8 | ndim u8 | digest length u8 | extents u32 | dims i64 * ndim
    start u64 | stop u64 | (offset u64, length u64) * extents | digest
    rest length u32 | rest            (maps, refused entries, and tensors whose header stands apart)
    name UTF-8                        (to the end)

where `rest` is, for a map, its arrays, each `dtype u8 | ndim u8 | extents u32 | dims | extents`; for a refused entry,
the reason as UTF-8; for a tensor whose header stands apart from its content, that header's length u32. Decoding checks
the record's own form (a tensor, and nothing else, has a dtype; no dimension is negative) and nothing else: what it says
about the file is compared with the file itself (`formats.verify_header`) before a byte is handed out.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from lazyckpt.model.dtypes import BY_CODE, DType
from lazyckpt.model.entry import MAP, REFUSED, STRING, TENSOR, Array, Entry, Extent, Packed, PackedArray, Plain

_LONGEST_REASON: Final = 4096  # characters: a shape has at most 32 dimensions, a message lists all dtypes
FORGED_REASON: Final = "its index gives no reason that lazyckpt would write: rebuild it (lazyckpt index --force)"
_KINDS: Final = {TENSOR: 0, STRING: 1, MAP: 2, REFUSED: 3}
_APART: Final = 4  # a tensor whose header stands apart
_KIND_OF: Final = {code: kind for kind, code in _KINDS.items()} | {_APART: TENSOR}
_LAST_SIMPLE: Final = 1  # kinds above it have a `rest`
# For `name_groups`, which cuts names out of records: kind -> bytes from the end of the dims to the name, but for the
# digest, of a record of one extent (whose number is written as these bytes).
WHERE_NAMES_START: Final = {_KINDS[TENSOR]: 32, _APART: 40}
ONE_EXTENT: Final = b"\1\0\0\0"
_HEAD: Final = struct.Struct("<BBBBI")
_PLACE: Final = struct.Struct("<QQ")
_PLACE_AND_REST: Final = struct.Struct("<QQI")  # of values without extents of their own
_SINGLE: Final = struct.Struct("<QQQQ")
_APART_REST: Final = struct.Struct("<QQQQII")  # `_SINGLE`, and the rest of a tensor whose header stands apart
_REST: Final = struct.Struct("<I")
_ARRAY: Final = struct.Struct("<BBI")


class BadRecord(ValueError):
    """Bytes that are no record: the index is damaged or of another version."""


def encode(entry: Entry, name: bytes) -> bytes:
    """The bytes of an entry; `name` is its name in UTF-8."""
    _, kind, dtype, shape, extents, start, stop, arrays, reason, digest, apart = entry
    code = _APART if apart else _KINDS[kind]
    parts = [
        _HEAD.pack(code, dtype.code if dtype else 0, len(shape), len(digest), len(extents)),
        _integers("q", shape),
        _PLACE.pack(start, stop),
        _pairs(extents),
        digest,
    ]
    if code > _LAST_SIMPLE:
        rest = _REST.pack(apart) if apart else reason.encode() if reason else b"".join(map(_encode_array, arrays))
        parts += [_REST.pack(len(rest)), rest]
    return b"".join([*parts, name])


def encode_packed(found: Packed) -> bytes:
    """`encode` for a value whose extents are packed already, at a third of the cost."""
    name, kind, dtype, shape, extents, start, stop, arrays, reason = found
    if not extents and not arrays:
        before, behind = _around(kind, dtype, shape, reason)
        return before + _PLACE.pack(start, stop) + behind + name
    code = _KINDS[kind]
    head = _head(code, dtype, shape, len(extents) // _PLACE.size)
    if code <= _LAST_SIMPLE:
        return head + _PLACE.pack(start, stop) + extents + name
    rest = b"".join(map(_encode_packed_array, arrays))
    return head + _PLACE_AND_REST.pack(start, stop, len(rest)) + rest + name


def _encode_packed_array(array: PackedArray) -> bytes:
    head = _ARRAY.pack(array.dtype.code, len(array.shape), len(array.extents) // _PLACE.size)
    return head + _integers("q", array.shape) + array.extents


def encode_plain(found: Plain) -> bytes:
    """`encode` for what nearly all parameters are."""
    name, dtype, shape, offset, length, start, stop, apart = found
    if apart:
        rest = _APART_REST.pack(start, stop, offset, length, _REST.size, apart)
        return _single_head(_APART, dtype, shape) + rest + name
    return _single_head(0, dtype, shape) + _SINGLE.pack(start, stop, offset, length) + name


def encode_run(run: Iterable[Plain]) -> list[bytes]:
    """`encode_plain` of each, at half its cost."""
    head, pack = _single_head, _SINGLE.pack
    return [
        head(0, found[1], found[2]) + pack(found[5], found[6], found[3], found[4]) + found[0]
        if not found[7]
        else encode_plain(found)
        for found in run
    ]


@functools.lru_cache(4_096)
def _single_head(kind: int, dtype: DType, shape: tuple[int, ...]) -> bytes:
    return _HEAD.pack(kind, dtype.code, len(shape), 0, 1) + _integers("q", shape)


@functools.lru_cache(1024)
def _around(kind: str, dtype: DType | None, shape: tuple[int, ...], reason: str) -> tuple[bytes, bytes]:
    """What stands before and behind the place of a value without extents."""
    code, rest = _KINDS[kind], reason.encode()
    return _head(code, dtype, shape, 0), _REST.pack(len(rest)) + rest if code > _LAST_SIMPLE else b""


@functools.lru_cache(1024)
def _head(code: int, dtype: DType | None, shape: tuple[int, ...], extents: int) -> bytes:
    return _HEAD.pack(code, dtype.code if dtype else 0, len(shape), 0, extents) + _integers("q", shape)


def decode(data: bytes, *, is_trusted: bool = True) -> Entry:
    """The inverse of `encode`.

    Args:
        data: a record.
        is_trusted: whether a reason in it may be any text. One out of an index file may be forged.

    Raises:
        BadRecord: the bytes are no record.
    """
    try:
        form = _simple(data[: _HEAD.size])
        if form is not None:
            return _decode_simple(data, form)
        kind, code, ndim, digest_length, extent_count = _HEAD.unpack_from(data)
        # A scalar has content. Earlier versions recorded an empty vector as a scalar without content.
        shape = _unpack(data, _HEAD.size, f"<{ndim}q") if ndim or extent_count or not code else (0,)
        position = _HEAD.size + 8 * ndim
        start, stop = _PLACE.unpack_from(data, position)
        position += _PLACE.size
        extents = _extents(data, position, extent_count)
        position += 16 * extent_count
        digest = data[position : position + digest_length]
        position += digest_length
        rest, position = _split_rest(data, position, kind)
        if position > len(data):
            raise BadRecord("a record of the wrong length")
        if bool(code) != (_KIND_OF[kind] == TENSOR) or (shape and (not code or min(shape) < 0)):
            raise BadRecord("a record that contradicts itself")
        return Entry(
            str(data[position:], "utf-8"),
            _KIND_OF[kind],
            BY_CODE[code] if code else None,
            shape,
            extents,
            start,
            stop,
            _arrays(rest) if kind == _KINDS[MAP] else (),
            _reason(rest, is_trusted) if kind == _KINDS[REFUSED] else "",
            digest,
            _REST.unpack(rest)[0] if kind == _APART else 0,
        )
    except (struct.error, KeyError, UnicodeDecodeError, MemoryError, OverflowError) as error:
        raise BadRecord(f"no record: {error}") from error


def _reason(data: bytes, is_trusted: bool) -> str:
    """Why a parameter cannot be loaded. The package writes one printable line; any other text is forged."""
    reason = str(data, "utf-8")
    return reason if is_trusted or (reason.isprintable() and len(reason) <= _LONGEST_REASON) else FORGED_REASON


class _Form(NamedTuple):
    """What records of tensors in one piece have in common whose heads are the same."""

    numbers: struct.Struct  # dims, start, stop, offset, length
    ndim: int
    dtype: DType
    name: int  # where it begins


@functools.lru_cache(1024)
def _simple(head: bytes) -> _Form | None:
    """The form of a record with this head, if it is a tensor in one piece. Cached: heads repeat."""
    kind, code, ndim, digest_length, extent_count = _HEAD.unpack(head)
    if kind != _KINDS[TENSOR] or extent_count != 1 or code not in BY_CODE:
        return None
    numbers = struct.Struct(f"<{_HEAD.size}x{ndim}q4Q")
    return _Form(numbers, ndim, BY_CODE[code], numbers.size + digest_length)


def _decode_simple(data: bytes, form: _Form) -> Entry:
    fields, ndim, dtype, name = form
    numbers = fields.unpack_from(data)
    shape = numbers[:ndim]
    if name > len(data):
        raise BadRecord("a record of the wrong length")
    if shape and min(shape) < 0:
        raise BadRecord("a record that contradicts itself")
    start, stop, offset, length = numbers[ndim:]
    new = tuple.__new__  # cheaper than by the classes' own
    extents = (new(Extent, (offset, length)),)
    digest = data[fields.size : name]
    return new(Entry, (str(data[name:], "utf-8"), TENSOR, dtype, shape, extents, start, stop, (), "", digest, 0))


def name_of(data: bytes) -> str:
    """Only the name of a record.

    Raises:
        BadRecord: the bytes are no record.
    """
    try:
        kind, _, ndim, digest_length, extent_count = _HEAD.unpack_from(data)
        position = _HEAD.size + 8 * ndim + _PLACE.size + 16 * extent_count + digest_length
        if kind > _LAST_SIMPLE:
            position = _split_rest(data, position, kind)[1]
        if position > len(data):
            raise BadRecord("a record of the wrong length")
        return str(data[position:], "utf-8")
    except (struct.error, UnicodeDecodeError) as error:
        raise BadRecord(f"no record: {error}") from error


def names_of(run: list[bytes]) -> list[str]:
    """The names of many records; a third of the cost of `name_of` for each.

    Raises:
        BadRecord: the bytes are no records.
    """
    starts = NameStarts()
    number = int.from_bytes
    try:
        names = [record[starts[number(record[:8], "little")] :].decode() for record in run]
    except (OddRecord, OverflowError, UnicodeDecodeError):
        names = [""]
    return names if "" not in names else [name_of(record) for record in run]  # some may be cut short


class OddRecord(Exception):
    """The first bytes of a record do not determine the offset of its name."""


class NameStarts(dict[int, int]):
    """The offset of the name in a record, by its first 8 bytes as a little-endian number."""

    def __missing__(self, head: int) -> int:
        kind, _, ndim, digest_length, extent_count = _HEAD.unpack(head.to_bytes(_HEAD.size, "little"))
        if kind > _LAST_SIMPLE and kind != _APART:
            raise OddRecord
        apart = 2 * _REST.size * (kind == _APART)
        start: int = _HEAD.size + 8 * ndim + _PLACE.size + 16 * extent_count + digest_length + apart
        self[head] = start
        return start


class PlainStarts(dict[bytes, int]):
    """The offset of the name in a record, by its first 8 bytes; 0 unless it is a plain tensor.

    A plain tensor is in one piece and has no digest. The 32 bytes before the name are start, stop, offset and length.
    """

    def __missing__(self, head: bytes) -> int:
        form = _simple(head) if len(head) == _HEAD.size else None
        start = self[head] = 0 if form is None or form.name != form.numbers.size else form.name
        return start


def facts_of(record: bytes) -> tuple[DType, tuple[int, ...]]:
    """The dtype and the shape of a tensor, from the bytes of its record up to the last dim."""
    _, code, ndim, _, _ = _HEAD.unpack_from(record)
    return BY_CODE[code], _unpack(record, _HEAD.size, f"<{ndim}q")


def _split_rest(data: bytes, position: int, kind: int) -> tuple[bytes, int]:
    if kind <= _LAST_SIMPLE:
        return b"", position
    (length,) = _REST.unpack_from(data, position)
    begin = position + _REST.size
    return data[begin : begin + length], begin + length


def _integers(code: str, numbers: tuple[int, ...]) -> bytes:
    return struct.pack(f"<{len(numbers)}{code}", *numbers)


def _pairs(extents: tuple[Extent, ...]) -> bytes:
    return _integers("Q", tuple(number for extent in extents for number in extent))


def _unpack(data: bytes, position: int, layout: str) -> tuple[int, ...]:
    return struct.unpack_from(layout, data, position)


def _extents(data: bytes, position: int, count: int) -> tuple[Extent, ...]:
    if position + 16 * count > len(data):
        raise BadRecord("a record of the wrong length")
    numbers = _unpack(data, position, f"<{2 * count}Q")
    return tuple(map(Extent, numbers[::2], numbers[1::2]))


def _encode_array(array: Array) -> bytes:
    head = _ARRAY.pack(array.dtype.code, len(array.shape), len(array.extents))
    return head + _integers("q", array.shape) + _pairs(array.extents)


def _arrays(data: bytes) -> tuple[Array, ...]:
    arrays, position = [], 0
    while position < len(data):
        code, ndim, extent_count = _ARRAY.unpack_from(data, position)
        position += _ARRAY.size
        shape = _unpack(data, position, f"<{ndim}q")
        position += 8 * ndim
        arrays.append(Array(BY_CODE[code], shape, _extents(data, position, extent_count)))
        position += 16 * extent_count
    return tuple(arrays)
