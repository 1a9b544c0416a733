"""Values exactly as MindSpore writes them, recognised fast.

    0A len  0A len tag  12 len  ( 08 dim )*  12 len type  1A len content

(and as `encode` aligns them, with a field of zeros before the content).

Strategy: layers repeat, so a value is first compared with the last one whose two outer lengths were the same: if all
bytes from its tag to its content are as they were there, only the name is new. Otherwise the two outer headers are read
byte by byte, the rest up to the content by one regular expression run on the bytes in place; what a header's bytes
claim is worked out once and remembered by those bytes. Whatever is written in any other way is left to the general walk
(`ckpt`), whose answer would be the same.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from lazyckpt.errors import CorruptFile
from lazyckpt.formats.ckpt_header import TensorHeader, impossible, merge_tensor
from lazyckpt.formats.protobuf_wire import Buffer
from lazyckpt.model.dtypes import IN_CKPT, DType
from lazyckpt.model.entry import TENSOR, Entry, Plain
from lazyckpt.model.tensor_runs import UniformGroup
from lazyckpt.sources.window import SparseBuffer, Window

VALUE: Final = 0x0A
TAG: Final = 0x0A
# What MindSpore writes from the end of a tensor's tag to the first byte of its content.
_BODY: Final = re.compile(
    rb"\x12([\x80-\xff]{0,5}[\x00-\x7f])((?:\x08[\x80-\xff]{0,4}[\x00-\x7f])*\x12[\x03-\x08][A-Za-z0-9]+"
    rb"(?:\x7a[\x80-\xff]?[\x00-\x7f]\x00*)?)"
    rb"\x1a([\x80-\xff]{0,5}[\x00-\x7f])"
)
_REMEMBERED: Final = 65_536  # headers whose claims are kept in memory during a scan
_OFTEN: Final = 1_024  # …, and for looking at single values
_LOOK: Final = 128  # bytes within which a value's content must begin, for the value to be told from another
_Claim = tuple[DType, tuple[int, ...], int]  # dtype, shape, bytes of content
_Recognise = Callable[[memoryview, int, int], Plain | None]


class _Form(NamedTuple):
    """What values have in common whose first bytes (up to the tag) are the same; positions count from their first."""

    tag: int
    tag_end: int
    header: bytes  # from the tag's end to the content
    dtype: DType
    shape: tuple[int, ...]
    content: int
    nbytes: int
    length: int


def recogniser(buffer: Buffer) -> Callable[[int, int], Plain | None]:
    """A function that gives the tensor standing at a position, if it is written as MindSpore writes it; else None.

    Layers repeat, so what a header's bytes claim (and whether its lengths agree) is remembered by those bytes.
    """
    recognise = _recogniser(_REMEMBERED)
    if isinstance(buffer, memoryview):
        return functools.partial(recognise, buffer)
    if isinstance(buffer, Window):
        return functools.partial(_in_window, recognise, buffer)
    return lambda position, end: None


def _in_window(recognise: _Recognise, window: Window, position: int, end: int) -> Plain | None:
    """Look in the bytes at hand; if the header is cut off there, once more in bytes fetched from its beginning."""
    for fresh in (False, True):
        run, base = window.run_from(position, fresh)
        found = recognise(run, position - base, end - base)
        if found is not None:
            return found._replace(offset=found.offset + base, start=position, stop=found.stop + base)
        if base == position:
            break
    return None


def _recogniser(most: int) -> _Recognise:
    """See `recogniser`; remembers up to `most` headers. Safe for many threads."""
    uniform: dict[bytes, _Form] = {}
    matched, new, form_of = _matching(most), tuple.__new__, uniform.get
    reach = 0

    def recognise(buffer: memoryview, position: int, end: int) -> Plain | None:
        """Tell the value from one before it, of the same lengths and the same header; else parse it."""
        nonlocal reach
        head = bytes(buffer[position : position + _LOOK])
        form = form_of(head[:reach])
        if form is not None:
            tag, tag_end, header, dtype, shape, content, nbytes, length = form
            name = head[tag:tag_end]
            if position + length <= end and name.isascii() and head.startswith(header, tag_end):
                return new(Plain, (name, dtype, shape, position + content, nbytes, position, position + length, 0))
        found = matched(buffer, position, end)
        if found is None or (content := found.offset - position) > _LOOK:
            return found
        reach = tag = _varint_end(head, _varint_end(head, 1) + 1)
        tag_end = tag + len(found.name)
        if len(uniform) >= most:
            uniform.clear()
        uniform[head[:tag]] = _Form(
            tag, tag_end, head[tag_end:content], found.dtype, found.shape, content, found.length, found.stop - position
        )
        return found

    return recognise


def _matching(most: int) -> _Recognise:
    claims: dict[bytes, _Claim] = {}
    match_body = _BODY.match

    def recognise(buffer: memoryview, position: int, end: int) -> Plain | None:
        try:
            begin = position + 2
            length = buffer[begin - 1]
            shift = 7
            while length >> shift and shift < 42:  # the byte just added had its highest bit set
                length += (buffer[begin] - 1) << shift
                begin += 1
                shift += 7
            tag = begin + 2
            tag_length = buffer[begin + 1]
            if tag_length > 0x7F:
                tag_length += (buffer[tag] - 1) << 7
                tag += 1
            if buffer[position] != VALUE or buffer[begin] != TAG:
                return None
        except IndexError:
            return None
        body = match_body(buffer, tag + tag_length, end)
        if body is None:
            return None
        header = body.group()
        claim = claims.get(header)
        if claim is None:
            claim = _read_claims(body)
            if claim is None:
                return None
            if len(claims) >= most:
                claims.clear()
            claims[header] = claim
        dtype, shape, nbytes = claim
        content = body.end()
        stop = content + nbytes
        if stop > end or stop != begin + length:
            return None
        name = bytes(buffer[tag : tag + tag_length])
        if not name.isascii() and not _is_utf8(name):
            return None
        return Plain(name, dtype, shape, content, nbytes, position, stop)

    return recognise


def matches_canonical(buffer: Buffer, entry: Entry) -> bool:
    """Whether a tensor stands where an entry says, written as MindSpore writes it, with just the entry's claims.

    `buffer` need have no more than its header. False does not mean that it does not stand there.
    """
    if isinstance(buffer, memoryview):
        run, base = buffer, 0
    elif isinstance(buffer, SparseBuffer):
        run, base = buffer.run_at(entry.start)
    else:
        return False
    if entry.kind != TENSOR or len(entry.extents) != 1 or entry.arrays or entry.reason or entry.apart:
        return False
    start, stop = entry.start - base, entry.stop - base
    found = _remembering(run, start, stop)
    offset, length = entry.extents[0]
    return found == (entry.name.encode(), entry.dtype, entry.shape, offset - base, length, start, stop, 0)


def matches_uniform(run: memoryview, base: int, uniform: UniformGroup) -> bool:
    """`matches_canonical` for many at once: the first is parsed, the other headers may differ from it in names only.

    Args:
        run: bytes of the file that hold all of them.
        base: where these begin in the file.
        uniform: the tensors.
    """
    headers = uniform.headers(run, base)
    if headers is None:
        return False
    name, start, size = uniform.names[0], uniform.starts[0] - base, uniform.header
    stop = start + size + uniform.length
    if _remembering(run, start, stop) != (
        name,
        uniform.dtype,
        uniform.shape,
        start + size,
        uniform.length,
        start,
        stop,
        0,
    ):
        return False
    first = headers[0].tobytes()
    tag = _varint_end(first, _varint_end(first, 1) + 1)
    before, behind = first[:tag], first[tag + len(name) :]
    expected: bytes = before + (behind + before).join(uniform.names) + behind
    return headers.tobytes() == expected


def _varint_end(data: bytes, position: int) -> int:
    """Where the varint at a position ends."""
    while data[position] > 0x7F:
        position += 1
    return position + 1


_remembering: Final = _recogniser(_OFTEN)


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _number(varint: bytes) -> int:
    value = 0
    for byte in reversed(varint):
        value = value << 7 | byte & 0x7F
    return value


def _read_claims(body: re.Match[bytes]) -> _Claim | None:
    """What a header from the tensor's key to the content's length claims.

    None if its lengths disagree, and for whatever the general walk should judge.
    """
    tensor_length, claims, content_length = body.groups()
    tensor = TensorHeader()
    try:
        merge_tensor(memoryview(claims), 0, len(claims), tensor)
    except CorruptFile:  # the type's length is not that of its letters
        return None
    dtype = IN_CKPT.get(tensor.type)
    if dtype is None or tensor.dims == [0] or impossible(tensor.dims, dtype):
        return None
    shape = tuple(tensor.dims)
    nbytes = math.prod(shape) * dtype.itemsize
    if not nbytes:  # such an entry has no extents
        return None
    if _number(content_length) != nbytes or _number(tensor_length) != body.end() - body.end(1) + nbytes:
        return None
    return dtype, shape, nbytes
