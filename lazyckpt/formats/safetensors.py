"""safetensors: find every tensor in a JSON header without looking at a payload.

    length u64 | { "__metadata__": {text: text}, "name": {"dtype": …, "shape": […], "data_offsets": [begin, end]}, … } |
    contents, one after the other, without gaps

Strategy: the header is walked once, item by item, and held against the rules of the safetensors package: what it
refuses is refused here (and names that come twice besides). An item written without spaces, as nearly all are, is
recognised by one regular expression; any other goes through a JSON parser, with the same result. An entry remembers
where its item stands, so that it can be proven again from the file alone. Entries come in the order of names, as
MindSpore's loader gives them.
"""

from __future__ import annotations

import functools
import json
import math
import operator
import re
import zlib
from collections.abc import Iterator, Mapping
from json.decoder import JSONDecodeError, JSONDecoder
from typing import Any, Final, NamedTuple

from lazyckpt.dtypes import BY_SAFETENSORS_NAME, DTYPES, DType
from lazyckpt.entry import REFUSED, TENSOR, Entry, Extent
from lazyckpt.errors import CorruptFile, StaleIndex, TruncatedFile
from lazyckpt.formats.header import impossible
from lazyckpt.formats.wire import Buffer
from lazyckpt.sources.base import Source

METADATA: Final = "__metadata__"
CRC: Final = "crc_num"  # the metadata's name for the checksum of MindSpore's files
LENGTH: Final = 8  # bytes of the header's length
LONGEST_HEADER: Final = 100_000_000
_CHUNK: Final = 2**20
_LARGEST: Final = 2**64
_SPACE: Final = " \t\n\r"
_FACTS: Final = ("dtype", "shape", "data_offsets")
# Types that take less than a byte, and those that only have a name: bits of an element.
_BITS: Final = {dtype.safetensors: dtype.bits for dtype in DTYPES.values()} | {"F6_E2M3": 6, "F6_E3M2": 6}


# An item without spaces or escapes, of ASCII alone: name, dtype, shape, where its content begins and ends.
_SIZE: Final = "(?:0|[1-9][0-9]{0,19})"
_COMPACT: Final = re.compile(
    r'"([^"\\\x00-\x1f\x80-\xff]*)":{"dtype":"([A-Z0-9_]+)","shape":\[((?:SIZE(?:,SIZE)*)?)\],'
    r'"data_offsets":\[(SIZE),(SIZE)\]}'.replace("SIZE", _SIZE)
)


class _Item(NamedTuple):
    """One tensor as the header has it.

    Attributes:
        name: unescaped.
        start: where its item begins, in bytes from the file's beginning.
        length: bytes of the item.
        dtype: the header's name of it.
        shape: the dimensions.
        begin: first byte of the content, counted from where contents begin.
        end: first byte after it.
    """

    name: str
    start: int
    length: int
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


_NAME: Final = operator.itemgetter(0)
_PLACE: Final = operator.itemgetter(5, 6)


class Header(NamedTuple):
    """A whole header: its tensors, in the order in which they stand there, and the metadata."""

    size: int
    items: list[_Item]
    metadata: Mapping[str, str]


def read_header(source: Source) -> Header:
    """Read and check the header of a file.

    Cost: reads the header; about 4 us a tensor.

    Raises:
        TruncatedFile: the file ends before what the header announces.
        CorruptFile: the header breaks the format's rules.
    """
    if source.size < LENGTH:
        raise TruncatedFile(f"a safetensors file has at least {LENGTH} bytes, this one has {source.size:,}")
    size = int.from_bytes(source.read(0, LENGTH), "little")
    if size > LONGEST_HEADER:
        raise CorruptFile(f"this is no safetensors file: its header would have {size:,} bytes", offset=0)
    if LENGTH + size > source.size:
        raise TruncatedFile(
            f"the file ends in its header: of {size:,} bytes {source.size - LENGTH:,} are there", offset=LENGTH
        )
    header = _parse(bytes(source.read(LENGTH, size)))
    _check_places(header, source.size - LENGTH - size)
    return header


def find(source: Source) -> Iterator[Entry]:
    """Yield every tensor, in the order of names.

    Cost: reads the header, as a whole; O(tensors) memory.

    Raises:
        CorruptFile: the file is no safetensors file, or damaged.
    """
    header = read_header(source)
    base = LENGTH + header.size
    for item in sorted(header.items, key=_NAME):
        yield _entry(item, base, header.metadata.get(item.name))


def metadata(source: Source) -> Mapping[str, str]:
    """What a file says of itself (`__metadata__`). Cost: reads the header."""
    return read_header(source).metadata


def checksums(source: Source) -> tuple[int | None, int]:
    """The crc32 that MindSpore stored (None if it did not), and the one that names and contents give.

    Cost: reads the whole file, 1 MiB at a time.
    """
    header = read_header(source)
    told = header.metadata.get(CRC)
    base = LENGTH + header.size
    crc = 0
    for item in sorted(header.items, key=lambda item: item.name):
        crc = zlib.crc32(item.name.encode(), crc)
        for start in range(base + item.begin, base + item.end, _CHUNK):
            crc = zlib.crc32(source.read(start, min(_CHUNK, base + item.end - start)), crc)
    return None if told is None else _number(told), crc


def confirm(source: Source, entry: Entry) -> None:
    """Make sure that the file, as it is now, has this entry where the entry says.

    Cost: reads its item of the header again, and the 8 bytes that tell where contents begin.

    Raises:
        StaleIndex: the header does not have it there.
    """
    if not LENGTH <= entry.start <= entry.start + entry.apart <= source.size or source.size < LENGTH:
        raise _stale(entry)
    _confirm(source.read(0, LENGTH), source.read(entry.start, entry.apart), entry)


def confirm_in(buffer: Buffer, entry: Entry) -> None:
    """`confirm` on bytes that are at hand: `buffer` is indexed by offsets in the file, at the header's bytes only."""
    _confirm(buffer[0:LENGTH], buffer[entry.start : entry.start + entry.apart], entry)


def header_extents(entry: Entry) -> list[Extent]:
    """The bytes that `confirm_in` looks at."""
    return [Extent(0, LENGTH), Extent(entry.start, entry.apart)]


def _confirm(length: bytes | memoryview, item: bytes | memoryview, entry: Entry) -> None:
    base = LENGTH + int.from_bytes(length, "little")
    try:
        found, stop = _item(bytes(item).decode("latin-1"), 0, entry.start)
    except CorruptFile:
        raise _stale(entry) from None
    if not isinstance(found, _Item) or stop != entry.apart:
        raise _stale(entry)
    # Whether values are Int4, stored as integers of a byte, is said elsewhere; it changes no byte.
    kept_as = "Int4" if entry.dtype is DTYPES["Int4"] else None
    if entry.start + entry.apart >= base or _entry(found, base, kept_as) != entry._replace(digest=b""):
        raise _stale(entry)


def _stale(entry: Entry) -> StaleIndex:
    return StaleIndex(
        "the index does not match the file here: the file was changed in place, or the index is another's;"
        " delete the index or rebuild it (lazyckpt index --force)",
        offset=entry.start,
        parameter=entry.name,
    )


def _parse(raw: bytes) -> Header:
    """Walk a header's JSON."""
    # One character a byte, so that positions in the text are positions in the file.
    text = raw.decode("latin-1")
    if not text.startswith("{"):
        raise CorruptFile("this is no safetensors file: its header does not begin with '{'", offset=LENGTH)
    items: dict[str, _Item] = {}
    facts: Mapping[str, str] | None = None
    position = _after_space(text, 1)
    if text[position : position + 1] == "}":
        position += 1
    else:
        while True:
            found, position = _compact(text, position) or _item(text, position, LENGTH + position)
            if not isinstance(found, _Item):
                if facts is not None:
                    raise CorruptFile(f"{METADATA} comes twice", offset=LENGTH + position)
                facts = found
            elif items.setdefault(found.name, found) is not found:
                raise CorruptFile("the name comes twice", offset=found.start, parameter=found.name)
            position = _after_space(text, position)
            if text[position : position + 1] != ",":
                break
            position = _after_space(text, position + 1)
        if text[position : position + 1] != "}":
            raise CorruptFile("the header is no JSON object: ',' or '}' is needed", offset=LENGTH + position)
        position += 1
    if text[position:].strip(_SPACE):
        raise CorruptFile("something follows the header's JSON", offset=LENGTH + position)
    return Header(len(raw), list(items.values()), facts or {})


def _compact(text: str, position: int) -> tuple[_Item, int] | None:
    """The tensor at a position, if it is written without spaces and all is as it should be; and where it ends."""
    match = _COMPACT.match(text, position)
    if match is None:
        return None
    name, dtype, shape, begin, end = match.groups()
    first, last = int(begin), int(end)
    dims, nbytes = _claimed(dtype, shape)
    if nbytes != last - first or last >= _LARGEST or name == METADATA:
        return None
    stop = match.end()
    return _Item(name, LENGTH + position, stop - position, dtype, dims, first, last), stop


@functools.lru_cache(65_536)
def _claimed(dtype: str, shape: str) -> tuple[tuple[int, ...], int]:
    """Dimensions, and the bytes that they need; -1 for what the long way round should judge."""
    dims = tuple(map(int, shape.split(","))) if shape else ()
    bits = math.prod(dims) * _BITS.get(dtype, 0)
    sound = dtype in _BITS and bits < _LARGEST and not bits % 8 and all(dim < _LARGEST for dim in dims)
    return dims, bits // 8 if sound else -1


def _item(text: str, position: int, offset: int) -> tuple[_Item | dict[str, str], int]:
    """The item at a position: a tensor, or the metadata; and where it ends. `offset` is its place in the file."""
    try:
        if text[position : position + 1] != '"':
            raise CorruptFile("the header is no JSON object: a name is needed", offset=offset)
        _, after_name = _DECODER.raw_decode(text, position)
        colon = _after_space(text, after_name)
        if text[colon : colon + 1] != ":":
            raise CorruptFile("the header is no JSON object: ':' is needed", offset=offset + colon - position)
        begin = _after_space(text, colon + 1)
        value, end = _DECODER.raw_decode(text, begin)
        name = _text(text[position:after_name])
        if name == METADATA:
            return _metadata(json.loads(_bytes(text[begin:end]), object_pairs_hook=_Object)), end
        return _tensor(name, offset, end - position, value), end
    except CorruptFile as error:
        error.offset = offset if error.offset is None else error.offset
        raise
    except (JSONDecodeError, UnicodeError, ValueError, RecursionError) as error:
        raise CorruptFile(f"the header is no JSON of UTF-8 text: {error}", offset=offset) from None


class _Object(list[tuple[str, Any]]):
    """A JSON object with its names as they come, so that one that comes twice is seen."""


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


_DECODER: Final = JSONDecoder(object_pairs_hook=_Object, parse_constant=_no_constant)


def _tensor(name: str, offset: int, length: int, value: Any) -> _Item:
    if not isinstance(value, _Object):
        raise CorruptFile("a tensor's facts must be an object", parameter=name)
    facts = [pair for pair in value if pair[0] in _FACTS]
    known = dict(facts)
    if len(known) != len(_FACTS) or len(facts) != len(_FACTS):
        raise CorruptFile(f"{', '.join(_FACTS)} are needed, once each", parameter=name)
    dtype, shape, offsets = known["dtype"], known["shape"], known["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise CorruptFile(f"there is no dtype {str(dtype)[:64]!r}", parameter=name)
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise CorruptFile(
            "shape and data_offsets must be lists of numbers from 0 on, the latter of two", parameter=name
        )
    begin, end = offsets
    bits = math.prod(shape) * _BITS[dtype]
    if bits >= _LARGEST or bits % 8 or bits // 8 != end - begin:
        raise CorruptFile(
            f"shape {tuple(shape)[:64]} of {dtype} needs {bits / 8:,.10g} bytes, data_offsets give {end - begin:,}",
            parameter=name,
        )
    return _Item(name, offset, length, dtype, tuple(shape), begin, end)


def _are_sizes(value: Any) -> bool:
    return type(value) is list and all(type(number) is int and 0 <= number < _LARGEST for number in value)


def _metadata(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, _Object) or not all(isinstance(text, str) for _, text in value):
        raise CorruptFile(f"{METADATA} must be an object of texts")
    found: dict[str, str] = dict(value)
    for text in (*found, *found.values()):
        text.encode()  # half of a surrogate pair is no text
    return found


def _check_places(header: Header, contents: int) -> None:
    """Make sure that contents follow each other without gaps and fill the file."""
    position = 0
    for item in sorted(header.items, key=_PLACE):
        if item.begin != position:
            raise CorruptFile(
                f"its content is at {item.begin:,} of the contents, {position:,} is where the one before it ends",
                offset=item.start,
                parameter=item.name,
            )
        position = item.end
    if position != contents:
        kind = TruncatedFile if contents < position else CorruptFile
        raise kind(f"the header announces {position:,} bytes of contents, the file has {contents:,}", offset=LENGTH)


def _entry(item: _Item, base: int, kept_as: str | None) -> Entry:
    """What an item says, as an entry."""
    name, start, length, stored_as, shape, begin, end = item
    dtype, why = _judged("Int4" if kept_as == "Int4" and stored_as == "I8" else stored_as, shape)
    if dtype is None:
        return Entry(name, REFUSED, None, (), (), start, base + end, (), why)
    extents = (Extent(base + begin, end - begin),) if end > begin else ()
    return Entry(name, TENSOR, dtype, shape, extents, start, base + end, (), "", b"", length)


@functools.lru_cache(65_536)
def _judged(dtype_name: str, shape: tuple[int, ...]) -> tuple[DType | None, str]:
    """The dtype of a tensor; or None, and why it cannot be read."""
    dtype = DTYPES["Int4"] if dtype_name == "Int4" else BY_SAFETENSORS_NAME.get(dtype_name)
    if dtype is None:
        why = f"numpy has no type for {dtype_name}"
    elif not dtype.is_known_here:
        why = f"the ml_dtypes installed here has no {dtype.numpy_name}: upgrade it (pip install -U ml_dtypes)"
    else:
        why = impossible(list(shape), dtype)
    return (None if why else dtype), why


def _after_space(text: str, position: int) -> int:
    while text[position : position + 1] in _SPACE and position < len(text):
        position += 1
    return position


def _bytes(text: str) -> str:
    """Text of one character a byte, as the UTF-8 that it is."""
    return text if text.isascii() else text.encode("latin-1").decode()


def _text(quoted: str) -> str:
    """The name that a piece of JSON stands for."""
    plain = quoted[1:-1]
    if "\\" not in plain and plain.isascii():
        return plain
    name: str = json.loads(_bytes(quoted))
    name.encode()  # half of a surrogate pair is no text
    return name


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else -1
