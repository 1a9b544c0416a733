"""The safetensors format: find every tensor in the JSON header without reading a payload.

    length u64 | { "__metadata__": {text: text}, "name": {"dtype": …, "shape": […], "data_offsets": [begin, end]}, … } |
    contents, one after the other, without gaps

Strategy: the header is read and validated once, as a whole (see `safetensors_header`). What the safetensors package
refuses is refused here, and repeated names too. An entry keeps the offset of its item in the header, so that it can be
verified again from the file alone. Entries come in the order of names, as in MindSpore's loader.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from lazyckpt.errors import CorruptFile, TruncatedFile
from lazyckpt.formats.ckpt_header import impossible, stale
from lazyckpt.formats.protobuf_wire import Buffer
from lazyckpt.formats.safetensors_checksum import add
from lazyckpt.formats.safetensors_header import LENGTH, LONGEST_HEADER, METADATA, Facts, Header, Item, item_at, parse
from lazyckpt.formats.zero_tail import explain
from lazyckpt.model.dtypes import BY_SAFETENSORS_NAME, DTYPES, DType
from lazyckpt.model.entry import REFUSED, TENSOR, Entry, Extent, Plain, entry_of
from lazyckpt.sources.base import Source
from lazyckpt.sources.window import pieces_of

__all__ = [
    "CRC", "LENGTH", "METADATA", "checksums", "find", "find_whole", "header_extents", "metadata", "read_header",
    "verify_header", "verify_header_in",
]  # fmt: skip

CRC: Final = "crc_num"  # the metadata key of MindSpore's checksum
_INT4: Final = DTYPES["Int4"]  # stored as I8; the metadata names the parameters that are Int4


def read_header(source: Source) -> Header:
    """Read and validate the header of a file.

    Cost: reads the header; see `safetensors_header.parse`.

    Raises:
        TruncatedFile: the file ends before the contents that the header announces.
        CorruptFile: the header breaks a rule of the format.
    """
    header = _read_header(source)
    header.items.check_places(source.size - LENGTH - header.size)
    return header


def _read_header(source: Source) -> Header:
    """`read_header` without a look at the contents."""
    size = int.from_bytes(source.snapshot(0, LENGTH), "little") if source.size >= LENGTH else 0
    try:
        return _parsed(source, size)
    except CorruptFile as error:
        explain(source, error, LENGTH + size if size <= LONGEST_HEADER else 0)
        raise


def _parsed(source: Source, size: int) -> Header:
    if source.size < LENGTH:
        raise TruncatedFile(f"a safetensors file has at least {LENGTH} bytes, this one has {source.size:,}")
    if size > LONGEST_HEADER:
        raise CorruptFile(f"this is not a safetensors file: its header would have {size:,} bytes", offset=0)
    if LENGTH + size > source.size:
        raise TruncatedFile(
            f"the file ends in its header: of {size:,} bytes {source.size - LENGTH:,} are there", offset=LENGTH
        )
    return parse(source.snapshot(LENGTH, size))


def find(source: Source) -> Iterator[Plain | Entry]:
    """Yield every tensor, in the order of names.

    Cost: reads the header, as a whole; O(tensors) memory, about 200 bytes each.

    Raises:
        CorruptFile: the file is not a safetensors file, or is damaged.
    """
    return _found_in(read_header(source))


def find_whole(source: Source) -> Iterator[Plain | Entry]:
    """Yield the tensors, and then raise the file's fault; those whose bytes are not all there come refused.

    Raises:
        CorruptFile: the file is damaged.

    Cost: as `find`.
    """
    header = _read_header(source)
    base, contents = LENGTH + header.size, source.size - LENGTH - header.size
    header.items.check_places(max(header.items.ends, default=0))  # places that contradict each other prove nothing
    for found in _found_in(header):
        if found.stop <= base + contents:
            yield found
        else:
            name, start = entry_of(found).name, found.start
            yield Entry(name, REFUSED, None, (), (), start, found.stop, (), "the file ends before it does")
    header.items.check_places(contents)


def _found_in(header: Header) -> Iterator[Plain | Entry]:
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
    """The metadata of a file (`__metadata__`). Cost: reads the header."""
    return read_header(source).metadata


def checksums(source: Source) -> tuple[int | None, int]:
    """The crc32 that MindSpore stored (None if it did not), and the crc32 of names and contents.

    Cost: reads the whole file, 1 MiB at a time.
    """
    header = read_header(source)
    stored = header.metadata.get(CRC)
    base = LENGTH + header.size
    crc = 0
    for item in header.items.by_name():
        pieces = pieces_of(source, base + item.begin, item.end - item.begin)
        crc = add(crc, item.name, item.facts.dtype, item.facts.shape, pieces)
    return None if stored is None else _number(stored), crc


def verify_header(source: Source, entry: Entry) -> None:
    """Verify that the file's header has the entry's item at the entry's offset.

    Cost: reads the item again, and the first 8 bytes of the file, which hold the size of the header.

    Raises:
        StaleIndex: the header does not have the item there.
    """
    if not LENGTH <= entry.start <= entry.start + entry.apart <= source.size or source.size < LENGTH:
        raise stale(entry)
    _verify(source.snapshot(0, LENGTH), source.snapshot(entry.start, entry.apart), entry)


def verify_header_in(buffer: Buffer, entry: Entry) -> None:
    """`verify_header` on bytes that have been read. `buffer` is indexed by file offsets, in the header only."""
    _verify(buffer[0:LENGTH], buffer[entry.start : entry.start + entry.apart], entry)


def header_extents(entry: Entry) -> list[Extent]:
    """The ranges that `verify_header_in` reads."""
    return [Extent(0, LENGTH), Extent(entry.start, entry.apart)]


def _verify(length: bytes | memoryview, item: bytes | memoryview, entry: Entry) -> None:
    base = LENGTH + int.from_bytes(length, "little")
    found = item_at(item, entry.start)
    if found is None or entry.start + entry.apart >= base:
        raise stale(entry)
    dtype, why = _judge(found.facts)
    # The item of an Int4 tensor says I8: only the metadata knows better. Its bytes are the same in both cases.
    kept_as = _INT4 if entry.dtype is _INT4 and found.facts.dtype == _INT4.safetensors else dtype
    if entry_of(_found(found, base, kept_as, why)) != entry._replace(digest=b""):
        raise stale(entry)


def _judge(facts: Facts) -> tuple[DType | None, str]:
    """The dtype of a tensor, and why it cannot be loaded (an empty string if it can)."""
    dtype = BY_SAFETENSORS_NAME.get(facts.dtype)
    if dtype is None:
        return None, f"numpy has no type for {facts.dtype}"
    if not dtype.is_known_here:
        return dtype, f"the ml_dtypes installed here has no {dtype.numpy_name}: upgrade it (pip install -U ml_dtypes)"
    return dtype, impossible(list(facts.shape), dtype)


def _found(item: Item, base: int, dtype: DType | None, why: str) -> Plain | Entry:
    """The entry of an item."""
    name, facts, start, length, begin, end = item
    if why or dtype is None:
        return Entry(name.decode(), REFUSED, None, (), (), start, base + end, (), why)
    if begin == end:
        return Entry(name.decode(), TENSOR, dtype, facts.shape, (), start, base + end, apart=length)
    return Plain(name, dtype, facts.shape, base + begin, end - begin, start, base + end, length)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else -1
