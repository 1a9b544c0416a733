"""Encode a MindSpore `.ckpt` item by item, yielding the entries of its index.

A tensor of more than 512 MiB is written in slices, as MindSpore does: several Values of one name, each with the whole
shape. Unlike in MindSpore, empty tensors are written, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from lazyckpt.errors import ArgumentValueError
from lazyckpt.formats.ckpt_encoder import (
    NOT_A_TRAILER,
    SLICE,
    TRAILER,
    TRAILER_MARK,
    Described,
    map_headers,
    tensor_header,
    trailer,
)
from lazyckpt.formats.ckpt_header import impossible
from lazyckpt.index.store import name_fault
from lazyckpt.model.dtypes import DType
from lazyckpt.model.entry import MAP, STRING, TENSOR, Array, Entry, Extent, Plain
from lazyckpt.writing.items import MAP_ARRAYS, Content, Item
from lazyckpt.writing.sink import Sink

_SHOWN: Final = 80  # characters of a name in a message
LONGEST_VALUE: Final = 2**31 - 2**16  # bytes of content in one protobuf message, with room for its header
_TYPE_OF_STRINGS: Final = "str"


def write(
    sink: Sink, items: Iterable[Item], *, align: int = 1, crc: bool = False, slice_size: int | None = None
) -> Iterator[Plain | Entry]:
    """Write a whole stream, and yield each item's entry once it is written.

    Args:
        sink: receives the bytes.
        items: in order, with distinct names, all checked by `check`.
        align: start each tensor's content at a multiple of so many bytes of the stream.
        crc: end with the checksum that the sink has computed.
        slice_size: maximum bytes of content in a slice; None for 512 MiB.
    """
    for item in items:
        yield _map(sink, item) if item.kind == MAP else _tensor(sink, item, align, slice_size or SLICE)
    if crc:
        sink.write(trailer(sink.crc))
    elif sink.tail[-TRAILER:].startswith(TRAILER_MARK):
        sink.write(NOT_A_TRAILER)
    sink.finish()


def check(item: Item) -> None:
    """Check that the format can hold an item.

    Raises:
        ArgumentValueError: the name is not valid Unicode or too long, or the value does not fit.
    """
    try:
        item.name.encode()
    except UnicodeEncodeError:
        raise ArgumentValueError(
            f"the name {item.name!r} is not valid Unicode: it cannot be encoded in UTF-8"
        ) from None
    fault = name_fault(item.name, item.kind)
    if fault:
        raise ArgumentValueError(f"{item.name[:_SHOWN]!r}… cannot be loaded again: {fault}; rename it")
    if item.kind != TENSOR and item.nbytes > LONGEST_VALUE:
        raise ArgumentValueError(f"{item.name!r}: a {item.kind} of {item.nbytes:,} bytes is too long for a .ckpt file")
    counts = len(item.contents)
    if item.kind == MAP and (not counts or counts % MAP_ARRAYS or not all(content.shape for content in item.contents)):
        raise ArgumentValueError(f"{item.name!r}: a map is a list of three arrays (keys, values, status), none 0-d")
    for content in item.contents:
        if content.dtype is not None and not content.dtype.in_ckpt:
            raise ArgumentValueError(
                f"{item.name!r} is of {content.dtype}, which MindSpore loads from no .ckpt; leave it out, or save as"
                " .safetensors"
            )
        fault = "" if content.dtype is None else impossible(list(content.shape), content.dtype)
        if fault:
            raise ArgumentValueError(f"{item.name!r} cannot be loaded again: {fault}")
        if any(dim > 2**31 - 1 for dim in content.shape):
            raise ArgumentValueError(f"{item.name!r}: MindSpore reads no dimension of more than {2**31 - 1:,}")


def _tensor(sink: Sink, item: Item, align: int, slice_size: int) -> Plain | Entry:
    (content,) = item.contents
    tag = item.name.encode()
    type_name = _TYPE_OF_STRINGS if content.dtype is None else content.dtype.name
    limit = content.nbytes if item.kind == STRING else slice_size
    start, extents = sink.position, []
    pieces = content.whole()
    left = memoryview(b"")
    for begin in range(0, content.nbytes or 1, max(1, limit)):
        length = min(limit, content.nbytes - begin)
        aligned = 1 if item.kind == STRING else align
        sink.write(tensor_header(tag, Described(type_name, content.shape, length), sink.position, aligned))
        if length:
            extents.append(Extent(sink.position, length))
        while length:
            if not left.nbytes:
                left = next(pieces)
            sink.write(left[:length])
            left, length = left[length:], length - len(left[:length])
    for left in pieces:  # exhaust it: only at its end the source may find that it is damaged
        sink.write(left)
    if item.kind == TENSOR and content.dtype is not None and len(extents) == 1:
        return Plain(tag, content.dtype, content.shape, *extents[0], start, sink.position)
    shape = () if item.kind == STRING else content.shape
    return Entry(item.name, item.kind, content.dtype, shape, tuple(extents), start, sink.position)


def _map(sink: Sink, item: Item) -> Entry:
    start = sink.position
    columns: list[list[tuple[Content, Extent]]] = [[] for _ in range(MAP_ARRAYS)]
    for first in range(0, len(item.contents), MAP_ARRAYS):
        contents = item.contents[first : first + MAP_ARRAYS]
        for column, written in zip(columns, _map_value(sink, item.name.encode(), contents), strict=True):
            column.append(written)
    return Entry(item.name, MAP, None, (), (), start, sink.position, tuple(map(_joined, columns)))


def _map_value(sink: Sink, tag: bytes, contents: Sequence[Content]) -> Iterator[tuple[Content, Extent]]:
    described = [Described(_dtype(content).name.lower(), content.shape, content.nbytes) for content in contents]
    for header, content in zip(map_headers(tag, described), contents, strict=True):
        sink.write(header)
        begin = sink.position
        for piece in content.whole():
            sink.write(piece)
        yield content, Extent(begin, content.nbytes)


def _joined(column: list[tuple[Content, Extent]]) -> Array:
    """One array of a map: its slices joined along the first axis."""
    last = column[-1][0]
    rows = sum(content.shape[0] for content, _ in column)
    extents = tuple(extent for _, extent in column if extent.length)
    return Array(_dtype(last), (rows, *last.shape[1:]), extents)


def _dtype(content: Content) -> DType:
    if content.dtype is None:
        raise TypeError("an array of a map has a dtype")
    return content.dtype
