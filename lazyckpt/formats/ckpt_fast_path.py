"""The fast path for `.ckpt`: recognise Values in exactly the form that MindSpore writes.

    0A len  0A len tag  12 len  ( 08 dim )*  12 len type  1A len content

(and in the form that `ckpt_encoder` aligns, with a field of zeros before the content).

Strategy: layers repeat. A value is first compared with the last one that had the same bytes before its name (they hold
the lengths): if the bytes from its name to its content are also equal, only the name is new, and nothing is parsed.
Otherwise the two outer headers are read byte by byte, and the rest up to the content is matched by one regular
expression on the bytes in place. The claims of a header are computed once and remembered by its bytes. Any other
encoding is left to the general walk (`ckpt`), which gives the same answer for every Value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from lazyckpt.errors import CorruptFile
from lazyckpt.formats.ckpt_header import STR, TensorHeader, impossible, merge_tensor
from lazyckpt.formats.protobuf_wire import Buffer
from lazyckpt.model.dtypes import IN_CKPT, DType
from lazyckpt.model.entry import STRING, TENSOR, Entry, Packed, Plain, pack_extent
from lazyckpt.model.tensor_runs import UniformGroup
from lazyckpt.sources.window import SparseBuffer, Window

VALUE: Final = 0x0A
TAG: Final = 0x0A
# What MindSpore writes between the name and the content: the tensor's key and length, the dims, the type, the padding
# (only if aligned), and the content's key and length. No type ends in z, which is the key of the padding: 26 bytes of
# padding would be taken for a content.
_BODY: Final = re.compile(
    rb"\x12([\x80-\xff]{0,5}[\x00-\x7f])((?:\x08[\x80-\xff]{0,4}[\x00-\x7f]){0,32}\x12[\x03-\x08][A-Za-z0-9]*[a-y0-9]"
    rb"(?:\x7a[\x80-\xff]?[\x00-\x7f]\x00*)?)"
    rb"\x1a([\x80-\xff]{0,5}[\x00-\x7f])"
)
_REMEMBERED: Final = 4_096  # headers whose claims are remembered during a scan
_OFTEN: Final = 1_024  # … and while single values are verified
_LONGEST_CUT: Final = 2**16  # bytes at the end of a window in which a header may be cut off: none is longer
_LOOK: Final = 128  # bytes compared at once; a value whose content begins later is always parsed
# kind, dtype, shape, bytes of content
_Claim = tuple[str, DType | None, tuple[int, ...], int]
_Recognised = Plain | Packed | None  # Packed: a string, or a tensor without content
_Recognise = Callable[[memoryview, int, int, int], _Recognised]
_UNSEEN: Final = ("", None, (), 0)


class _Form(NamedTuple):
    """A value seen before, known by the bytes before its name. Positions count from its start."""

    tag: int
    tag_end: int
    header: bytes  # the bytes from the end of the name to the content
    dtype: DType
    shape: tuple[int, ...]
    content: int
    nbytes: int
    length: int


def recogniser(buffer: Buffer) -> Callable[[int, int], _Recognised]:
    """A function that returns the tensor or string at a position, or None if it is not in MindSpore's form.

    It remembers the claims of headers (and whether their lengths agree) by the bytes of the header.
    """
    recognise = _recogniser(_REMEMBERED)
    if isinstance(buffer, memoryview):
        return lambda position, end: recognise(buffer, position, end, 0)
    if isinstance(buffer, Window):
        return _in_window(recognise, buffer)
    return lambda position, end: None


def _in_window(recognise: _Recognise, window: Window) -> Callable[[int, int], _Recognised]:
    """`recogniser` for a window: tries the bytes fetched last; if they may cut the header off, fetches from its start.

    The bytes are kept here, because asking the window for them would cost as much as recognising a value.
    """
    run, base, until = memoryview(b""), 0, 0

    def recognise_at(position: int, end: int) -> _Recognised:
        nonlocal run, base, until
        if base <= position < until:
            found = recognise(run, position, end, base)
            if found is not None or until - position > _LONGEST_CUT or base == position:
                return found
        run, base = window.run_from(position, True)
        until = base + len(run)
        return recognise(run, position, end, base)

    return recognise_at


def _recogniser(most: int) -> _Recognise:
    """See `recogniser`; remembers up to `most` headers. Thread-safe.

    The function takes bytes, the position of the value, the end of the values, and the offset at which the bytes begin.
    """
    uniform: dict[bytes, _Form] = {}
    matched, new, form_of = _matching(most), tuple.__new__, uniform.get
    reach = 0

    def recognise(buffer: memoryview, position: int, end: int, base: int) -> _Recognised:
        """Compare the value with one seen before; parse it if none is equal up to the name."""
        nonlocal reach
        at = position - base
        head = bytes(buffer[at : at + _LOOK])
        # The bytes before the name hold the lengths of the Value and of the name. If they are those of a known form,
        # and the bytes after the name are too, then every number of the header is equal, and so is every claim.
        # The name is not compared: it must be ASCII here, because only the slow path checks UTF-8.
        form = form_of(head[:reach])
        if form is not None:
            tag, tag_end, header, dtype, shape, content, nbytes, length = form
            name = head[tag:tag_end]
            if position + length <= end and name.isascii() and head.startswith(header, tag_end):
                return new(Plain, (name, dtype, shape, position + content, nbytes, position, position + length, 0))
        found = matched(buffer, position, end, base)
        if not isinstance(found, Plain) or (content := found.offset - position) > _LOOK:
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
    claims: dict[bytes, _Claim | None] = {}
    match_body = _BODY.match

    def recognise(buffer: memoryview, position: int, end: int, base: int) -> _Recognised:
        start = position - base
        try:
            begin = start + 2
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
            if buffer[start] != VALUE or buffer[begin] != TAG:
                return None
        except IndexError:
            return None
        body = match_body(buffer, tag + tag_length, end - base)
        if body is None:
            return None
        header = body.group()
        claim = claims.get(header, _UNSEEN)
        if claim is _UNSEEN:
            claim = _read_claims(body)
            if len(header) <= _LOOK:
                if len(claims) >= most:
                    claims.clear()
                claims[header] = claim
        if claim is None:
            return None
        kind, dtype, shape, nbytes = claim
        content = body.end()
        stop = content + nbytes
        if stop > end - base or stop != begin + length:
            return None
        name = bytes(buffer[tag : tag + tag_length])
        if not name.isascii() and not _is_utf8(name):
            return None
        if dtype is None or not nbytes:
            extents = pack_extent(content + base, nbytes) if nbytes else b""
            return Packed(name, kind, dtype, shape, extents, position, stop + base)
        return Plain(name, dtype, shape, content + base, nbytes, position, stop + base)

    return recognise


def matches_canonical(buffer: Buffer, entry: Entry) -> bool:
    """Whether the header at the entry's offset has MindSpore's form and the entry's claims.

    `buffer` needs to have no more than the header. False means "not in this form": the general walk must decide.
    """
    if isinstance(buffer, memoryview):
        run, base = buffer, 0
    elif isinstance(buffer, SparseBuffer):
        run, base = buffer.run_at(entry.start)
    else:
        return False
    if entry.kind != TENSOR or len(entry.extents) != 1 or entry.arrays or entry.reason or entry.apart:
        return False
    return _is(run, base, entry)


def matches_header(header: memoryview, entry: Entry) -> bool:
    """`matches_canonical` on the bytes from the start of an entry to its content."""
    return not entry.reason and not entry.apart and entry.kind == TENSOR and _is(header, entry.start, entry)


def _is(run: memoryview, base: int, entry: Entry) -> bool:
    found = _remembering(run, entry.start, entry.stop, base)
    offset, length = entry.extents[0]
    return found == (entry.name.encode(), entry.dtype, entry.shape, offset, length, entry.start, entry.stop, 0)


def matches_uniform(run: memoryview, base: int, uniform: UniformGroup) -> bool:
    """`matches_canonical` for a group: parses the first header, compares the others with it.

    Args:
        run: bytes of the file that hold all tensors of the group.
        base: the offset of these bytes in the file.
        uniform: the tensors.
    """
    headers = uniform.headers(run, base)
    if headers is None:
        return False
    name, start, size = uniform.names[0], uniform.starts[0] - base, uniform.header
    stop = start + size + uniform.length
    if _remembering(run, start, stop, 0) != (
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
    # Every header must be the first one with another name of the same length: one comparison of all headers at once.
    expected: bytes = before + (behind + before).join(uniform.names) + behind
    return headers.tobytes() == expected


def _varint_end(data: bytes, position: int) -> int:
    """The position after a varint."""
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
    """The claims of a header, from the tensor's key to the content's length.

    None if its lengths disagree, and for everything that the general walk must decide.
    """
    tensor_length, claims, content_length = body.groups()
    tensor = TensorHeader()
    try:
        merge_tensor(memoryview(claims), 0, len(claims), tensor)
    except CorruptFile:  # the length of the type is not the number of its letters
        return None
    nbytes, dtype = _number(content_length), IN_CKPT.get(tensor.type)
    if _number(tensor_length) != body.end() - body.end(1) + nbytes:
        return None
    if tensor.type == STR:
        return (STRING, None, (), nbytes) if nbytes and nbytes % 4 == 0 else None
    if dtype is None or tensor.dims == [0] or impossible(tensor.dims, dtype):
        return None
    shape = tuple(tensor.dims)
    return (TENSOR, dtype, shape, nbytes) if nbytes == math.prod(shape) * dtype.itemsize else None
