"""Checkpoints: from bytes to entries, to records of an index, to values, and to bytes again."""

from __future__ import annotations

import io

import checkpoints as made
from tracing import TracingSource

from fuzzing.target import GOLDEN, LARGEST_SEED, Seed, Target, Violation, same
from lazyckpt.errors import CorruptFile, LazyCkptError
from lazyckpt.formats import FORMATS, find, scan
from lazyckpt.formats.ckpt import header_extents
from lazyckpt.index.footer import Meta
from lazyckpt.index.open_file import without_index
from lazyckpt.index.records import BadRecord, decode, encode
from lazyckpt.index.store import MemoryStore
from lazyckpt.model.entry import Entry, Fingerprint, entry_of
from lazyckpt.reading.reader import FileReader
from lazyckpt.sources.base import BytesSource, Source
from lazyckpt.writing import ckpt
from lazyckpt.writing.items import stored
from lazyckpt.writing.sink import PlainSink

NOWHERE = Meta(Fingerprint(0, 0, bytes(16)))


def checkpoint_seeds() -> list[Seed]:
    """Checkpoints written by hand, and the golden ones that are small, plain and sound."""
    files = [
        made.checkpoint(made.MIXED),
        made.with_crc(made.checkpoint(made.LAYERS)),
        made.sliced_value("w", made.counting((6, 7)), [40, 0, 60]) + made.array_value("v", made.counting((3,))),
        made.tensor_value("w", [2, 3], "Int16", made.pattern(12), packed=True, pad=2) * 2,
        made.map_value("t", [made.counting((3,), "int32")] * 3) * 2 + made.string_value("s", "text"),
        made.group(9, made.number(1, 5), made.chunk(2, b"abc")) + made.array_value("w", made.counting((2, 2))),
        b"".join(made.array_value(f"layer{place}.weight", made.counting((place, 3))) for place in range(40)),
        *(path.read_bytes() for path in sorted(GOLDEN.glob("*.ckpt")) if path.stat().st_size <= LARGEST_SEED),
    ]
    return [Seed(data, hot) for data in files if (hot := _headers(data))]


def _headers(data: bytes) -> list[int]:
    """The offsets of all bytes that are not content; none of a file that is not a checkpoint."""
    try:
        extents = [extent for entry in scan(BytesSource(data), "ckpt") for extent in header_extents(entry)]
    except LazyCkptError:
        return []
    return [place for offset, length in extents for place in range(offset, offset + length)]


def read_checkpoint(data: bytes, form: str = "ckpt") -> None:
    """Scan in memory and in small windows, index the entries, and read every value both ways."""
    memory, bytewise = BytesSource(data), TracingSource(data, window=1)
    bytewise.name = memory.name
    entries, fault = entries_of(memory, form)
    if (entries, fault) != entries_of(bytewise, form):
        raise Violation("recognised and walked, a file is not the same")
    if fault:
        raise CorruptFile(fault)
    store = MemoryStore(find(memory, form), NOWHERE)
    kept = {record.name: record for record in map(decode, store.records(0, store.meta.parameters))}
    if kept != {entry.name: entry for entry in entries}:
        raise Violation("the index does not keep what it was given")
    read_values(memory, list(kept.values()), bytewise, form=form)


def write_again(data: bytes) -> None:
    """Write a mutant's values, aligned and in slices, and read them back."""
    source = BytesSource(data)
    entries = {entry.name: entry for entry in scan(source, "ckpt") if entry.kind != "refused"}
    reader = FileReader(without_index(source, FORMATS["ckpt"]))
    items = [stored(name, entry, reader) for name, entry in entries.items()]
    for item in items:
        ckpt.check(item)
    file = io.BytesIO()
    known = [entry_of(found) for found in ckpt.write(PlainSink(file), items, align=64, slice_size=32)]
    written = BytesSource(file.getvalue())
    if known != list(scan(written, "ckpt")):
        raise Violation("the writer knows something else than a walk finds")
    again = FileReader(without_index(written, FORMATS["ckpt"]))
    for entry in known:
        if not same(reader.value(entries[entry.name]), again.value(entry)):
            raise Violation(f"{entry.name!r} is another value when it has been written")


def entries_of(source: Source, form: str) -> tuple[list[Entry], str]:
    """The entries of a scan, and the fault that ends it."""
    entries: list[Entry] = []
    try:
        entries.extend(scan(source, form))
    except LazyCkptError as error:
        return entries, f"{type(error)} {error}"
    return entries, ""


def read_values(source: Source, entries: list[Entry], *others: Source, form: str = "ckpt") -> None:
    """Read every value, and find the same in other sources."""
    reader, *rest = (FileReader(without_index(one, FORMATS[form])) for one in (source, *others))
    refused = None
    for entry in entries:
        if entry.kind == "refused":
            continue
        try:
            value = reader.value(entry)
        except CorruptFile as error:  # a string of impossible characters
            refused = error
            continue
        for other in rest:
            if not same(value, other.value(entry)):
                raise Violation(f"{entry.name!r} has another value when it is read by the byte")
    if refused is not None:
        raise refused


# Records of an index: a forged one never leads to a value that the file does not have.

FILE = made.checkpoint(made.MIXED)
TRUE = list(scan(BytesSource(FILE), "ckpt"))


def record_seeds() -> list[Seed]:
    """The records of a checkpoint's index."""
    return [Seed(data, list(range(len(data)))) for data in (encode(entry, entry.name.encode()) for entry in TRUE)]


def read_record(data: bytes) -> None:
    """Believe a forged record, and read the value that it leads to."""
    entry = decode(data)
    if entry.kind == "refused":
        return
    for source in (BytesSource(FILE), TracingSource(FILE, window=64)):
        FileReader(without_index(source, FORMATS["ckpt"])).value(entry._replace(digest=b""))
        if entry._replace(digest=b"") not in TRUE:
            raise Violation("a forged record led to a value")


TARGETS = {
    "walker": Target(checkpoint_seeds, read_checkpoint, memory=16),
    "writing": Target(checkpoint_seeds, write_again),
    "records": Target(record_seeds, read_record, (LazyCkptError, BadRecord)),
}
