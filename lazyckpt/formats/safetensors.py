"""safetensors: find every tensor in a JSON header without looking at a payload.

    length u64 | { "__metadata__": {text: text}, "name": {"dtype": …, "shape": […], "data_offsets": [begin, end]}, … } |
    contents, one after the other, without gaps

Strategy: the header is read and checked whole, once (see `json_header`): what the safetensors package refuses is
refused here (and names that come twice besides). An entry remembers where its item stands, so that it can be proven
again from the file alone. Entries come in the order of names, as MindSpore's loader gives them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from lazyckpt.errors import CorruptFile, TruncatedFile
from lazyckpt.formats.ckpt_header import impossible, stale
from lazyckpt.formats.protobuf_wire import Buffer
from lazyckpt.formats.safetensors_checksum import add
from lazyckpt.formats.safetensors_header import LENGTH, LONGEST_HEADER, METADATA, Facts, Header, Item, item_at, parse
from lazyckpt.model.dtypes import BY_SAFETENSORS_NAME, DTYPES, DType
from lazyckpt.model.entry import REFUSED, TENSOR, Entry, Extent, Plain, entry_of
from lazyckpt.sources.base import Source

__all__ = [
    "CRC", "LENGTH", "METADATA", "checksums", "find", "header_extents", "metadata", "read_header",
    "verify_header", "verify_header_in",
]  # fmt: skip

CRC: Final = "crc_num"  # the metadata's name for the checksum of MindSpore's files
_INT4: Final = DTYPES["Int4"]  # which is kept as integers of a byte
_CHUNK: Final = 2**20


def read_header(source: Source) -> Header:
    """Read and check the header of a file.

    Cost: reads the header; see `json_header.parse`.

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
    header = parse(source.read(LENGTH, size))
    header.items.check_places(source.size - LENGTH - size)
    return header


def find(source: Source) -> Iterator[Plain | Entry]:
    """Yield every tensor, in the order of names.

    Cost: reads the header, as a whole; O(tensors) memory, about 200 bytes each.

    Raises:
        CorruptFile: the file is no safetensors file, or damaged.
    """
    header = read_header(source)
    base = LENGTH + header.size
    packed = {name.encode() for name, text in header.metadata.items() if text == _INT4.name}
    judged: dict[Facts, tuple[DType | None, str]] = {}
    for item in header.items.by_name():
        facts = item.facts
        if facts not in judged:
            judged[facts] = _judge(facts)
        dtype, why = judged[facts]
        yield _found(item, base, _INT4 if facts.dtype == _INT4.safetensors and item.name in packed else dtype, why)


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
    for item in header.items.by_name():
        starts = range(base + item.begin, base + item.end, _CHUNK)
        pieces = (source.read(start, min(_CHUNK, base + item.end - start)) for start in starts)
        crc = add(crc, item.name, item.facts.dtype, item.facts.shape, pieces)
    return None if told is None else _number(told), crc


def verify_header(source: Source, entry: Entry) -> None:
    """Make sure that the file, as it is now, has this entry where the entry says.

    Cost: reads its item of the header again, and the 8 bytes that tell where contents begin.

    Raises:
        StaleIndex: the header does not have it there.
    """
    if not LENGTH <= entry.start <= entry.start + entry.apart <= source.size or source.size < LENGTH:
        raise stale(entry)
    _verify(source.read(0, LENGTH), source.read(entry.start, entry.apart), entry)


def verify_header_in(buffer: Buffer, entry: Entry) -> None:
    """`verify_header` on bytes in memory: `buffer` is indexed by offsets in the file, at the header's bytes only."""
    _verify(buffer[0:LENGTH], buffer[entry.start : entry.start + entry.apart], entry)


def header_extents(entry: Entry) -> list[Extent]:
    """The bytes that `verify_header_in` looks at."""
    return [Extent(0, LENGTH), Extent(entry.start, entry.apart)]


def _verify(length: bytes | memoryview, item: bytes | memoryview, entry: Entry) -> None:
    base = LENGTH + int.from_bytes(length, "little")
    found = item_at(item, entry.start)
    if found is None or entry.start + entry.apart >= base:
        raise stale(entry)
    dtype, why = _judge(found.facts)
    # Whether values are Int4, stored as integers of a byte, is said elsewhere; it changes no byte.
    kept_as = _INT4 if entry.dtype is _INT4 and found.facts.dtype == _INT4.safetensors else dtype
    if entry_of(_found(found, base, kept_as, why)) != entry._replace(digest=b""):
        raise stale(entry)


def _judge(facts: Facts) -> tuple[DType | None, str]:
    """The dtype that facts name, and why no value can be had of them (or nothing)."""
    dtype = BY_SAFETENSORS_NAME.get(facts.dtype)
    if dtype is None:
        return None, f"numpy has no type for {facts.dtype}"
    if not dtype.is_known_here:
        return dtype, f"the ml_dtypes installed here has no {dtype.numpy_name}: upgrade it (pip install -U ml_dtypes)"
    return dtype, impossible(list(facts.shape), dtype)


def _found(item: Item, base: int, dtype: DType | None, why: str) -> Plain | Entry:
    """What an item says."""
    name, facts, start, length, begin, end = item
    if why or dtype is None:
        return Entry(name.decode(), REFUSED, None, (), (), start, base + end, (), why)
    if begin == end:
        return Entry(name.decode(), TENSOR, dtype, facts.shape, (), start, base + end, apart=length)
    return Plain(name, dtype, facts.shape, base + begin, end - begin, start, base + end, length)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else -1
