"""Throw damaged files at what reads them, and see that it reads, or refuses with the one kind of error.

    python tools/fuzz.py --count 100000                  every target, so many mutants each
    python tools/fuzz.py --seconds 60 --target walker    one target, so long
    python tools/fuzz.py --target walker --replay fuzz-walker-0-123.bin

The contract of a target: a mutant gives values, or an error of the kinds that the target allows (`LazyCkptError`s that
are `ValueError`s); it takes no longer than a second; all of them together let the memory of the process grow by less
than 200 MiB. A mutant that breaks it is written to a file, and the exit code is 1. The same seed makes the same
mutants.

Targets marked `apart` are read in forked processes, a batch each: one that dies, or does not come back, is a violation.

A new target is a function that makes its seeds, a function that reads a mutant, and a line in `TARGETS`. Mutants are
made by changing a few bytes; half of the places are taken from a seed's `hot` ones, where lengths and keys are.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import functools
import io
import itertools
import json
import mmap
import os
import pickle
import random
import re
import resource
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden" / "files"
SHARDED = ROOT / "tests" / "golden" / "sharded"
sys.path.insert(0, str(ROOT / "tests"))

import checkpoints as made  # noqa: E402 (the folder of the tests' builders is put on the path above)
import encryption  # noqa: E402
import safetensors_files  # noqa: E402
from tracing import TracingSource  # noqa: E402

from lazyckpt.checkpoint import Checkpoint  # noqa: E402
from lazyckpt.dtypes import DTYPES  # noqa: E402
from lazyckpt.entry import Entry, Fingerprint, entry_of  # noqa: E402
from lazyckpt.errors import CorruptFile, LazyCkptError, WrongFormat  # noqa: E402
from lazyckpt.formats import FORMATS, find, scan  # noqa: E402
from lazyckpt.formats.ckpt import header_extents  # noqa: E402
from lazyckpt.index.pages import add_checksums  # noqa: E402
from lazyckpt.index.record import BadRecord, Meta, decode, encode  # noqa: E402
from lazyckpt.index.store import MemoryStore  # noqa: E402
from lazyckpt.keys import Secret  # noqa: E402
from lazyckpt.loading import load_checkpoint  # noqa: E402
from lazyckpt.payload import Payloads  # noqa: E402
from lazyckpt.sharding.layout import ImpossibleLayout, cut_of  # noqa: E402
from lazyckpt.sharding.strategy import read_strategy  # noqa: E402
from lazyckpt.sources.base import BytesSource, Source  # noqa: E402
from lazyckpt.sources.cipher import MODES, Lock  # noqa: E402
from lazyckpt.sources.encrypted import DecryptedSource, open_encrypted  # noqa: E402
from lazyckpt.sources.frames import FrameTable, hop  # noqa: E402
from lazyckpt.writing import ckpt  # noqa: E402
from lazyckpt.writing.items import stored  # noqa: E402
from lazyckpt.writing.sink import PlainSink  # noqa: E402

_BATCH = 2000  # mutants a process
_LONGEST = 1800  # seconds that it may take
SLOWEST = 1.0  # seconds
MOST_MEMORY = 200 * 2**20
LARGEST_SEED = 2**16
NUMBERS = (0, 1, 2, 127, 128, 2**14, 2**21, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)
BYTES = (0x00, 0x01, 0x04, 0x08, 0x0A, 0x12, 0x1A, 0x7F, 0x80, 0xFF)
_END = re.compile(rb'"data_offsets":\s*\[\s*[0-9]+\s*,\s*([0-9]{1,9})\s*\]')
_STATUS = re.compile(rb"VmHWM:\s+(\d+) kB")
NOWHERE = Meta(Fingerprint(0, 0, bytes(16)))


class Seed(NamedTuple):
    """A sound file, and the places where a change matters most."""

    data: bytes
    hot: list[int]


Change = Callable[[bytearray, int, random.Random, list[Seed]], None]


class Target(NamedTuple):
    """What is fuzzed.

    Attributes:
        seeds: makes the files whose mutants are read.
        read: reads a mutant; whatever it raises beyond `allowed` is a violation.
        allowed: the errors that say that a mutant was refused.
        changes: how mutants are made.
        apart: whether they are read in processes of their own.
    """

    seeds: Callable[[], list[Seed]]
    read: Callable[[bytes], object]
    allowed: tuple[type[Exception], ...] = (LazyCkptError,)
    changes: tuple[Change, ...] | None = None
    apart: bool = False


class Violation(Exception):
    """A reader contradicts itself."""


# The walker: from bytes to entries, to records of an index, to values.


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
    """The offsets of all bytes that are not content; none of a file that is no checkpoint."""
    try:
        extents = [extent for entry in scan(BytesSource(data), "ckpt") for extent in header_extents(entry)]
    except LazyCkptError:
        return []
    return [place for offset, length in extents for place in range(offset, offset + length)]


def read_checkpoint(data: bytes, form: str = "ckpt") -> None:
    """Scan in memory and by the byte, keep what is found in an index, and read every value both ways."""
    memory, bytewise = BytesSource(data), TracingSource(data, window=1)
    bytewise.name = memory.name
    entries, fault = _entries(memory, form)
    if (entries, fault) != _entries(bytewise, form):
        raise Violation("recognised and walked, a file is not the same")
    if fault:
        raise CorruptFile(fault)
    store = MemoryStore(find(memory, form), NOWHERE)
    kept = {record.name: record for record in map(decode, store.records(0, store.meta.parameters))}
    if kept != {entry.name: entry for entry in entries}:
        raise Violation("the index does not keep what it was given")
    _read_values(memory, list(kept.values()), bytewise, form=form)


def write_again(data: bytes) -> None:
    """Write what a mutant holds, aligned and in slices, and find the same values in what was written."""
    source = BytesSource(data)
    entries = {entry.name: entry for entry in scan(source, "ckpt") if entry.kind != "refused"}
    payloads = Payloads(source, FORMATS["ckpt"])
    items = [stored(name, entry, payloads) for name, entry in entries.items()]
    for item in items:
        ckpt.check(item)
    file = io.BytesIO()
    told = [entry_of(found) for found in ckpt.write(PlainSink(file), items, align=64, slice_size=32)]
    written = BytesSource(file.getvalue())
    if told != list(scan(written, "ckpt")):
        raise Violation("the writer knows something else than a walk finds")
    again = Payloads(written, FORMATS["ckpt"])
    for entry in told:
        if not _same(payloads.value(entries[entry.name]), again.value(entry)):
            raise Violation(f"{entry.name!r} is another value when it has been written")


# safetensors: the header, and what it leads to; beside the package itself.

ARRAYS = {"w": made.counting((2, 3)), "empty": np.zeros((0, 2), "float32"), "é": made.counting((5,), "int8")}


def safetensors_seeds() -> list[Seed]:
    """Files written by hand, with and without spaces and metadata, of every dtype, and the golden ones that are sound.

    All of a header matters.
    """
    facts, size = {}, 0
    for dtype in DTYPES.values():
        facts[dtype.name] = safetensors_files.item(dtype.safetensors, [2, 2], size, size + dtype.stored_size(4))
        size += dtype.stored_size(4)
    facts["six"] = safetensors_files.item("F6_E2M3", [4], size, size + 3)
    files = [
        *(
            safetensors_files.file_of(ARRAYS, metadata, spaces)
            for metadata, spaces in itertools.product((None, {"format": "ms", "w": "Int4"}), (False, True))
        ),
        safetensors_files.raw(facts, made.pattern(size + 3)),
        *(path.read_bytes() for path in sorted(GOLDEN.glob("*.safetensors")) if path.stat().st_size <= LARGEST_SEED),
    ]
    sound = [data for data in files if not _entries(BytesSource(data), "safetensors")[1]]
    return [Seed(data, list(range(8 + int.from_bytes(data[:8], "little")))) for data in sound]


def read_safetensors(data: bytes) -> None:
    """Read a file as it is, and once more with a length that suits its header, so that the JSON is looked at, too."""
    with contextlib.suppress(CorruptFile, WrongFormat):
        _beside_the_package(_measured(data))
    _beside_the_package(data)


def _measured(data: bytes) -> bytes:
    """The file with the length of the header that leaves as many bytes of contents as the header announces."""
    ends = [int(end) for end in _END.findall(data)]
    length = len(data) - 8 - max((end for end in ends if end <= len(data) - 8), default=0)
    return max(0, length).to_bytes(8, "little") + data[8:]


def _beside_the_package(data: bytes) -> None:
    """Read a file as a checkpoint. The package finds the same in it, or nothing either."""
    theirs = _by_package(data)
    try:
        read_checkpoint(data, "safetensors")
    except LazyCkptError as fault:
        if theirs is not None and not _is_refused_on_purpose(data):
            raise Violation(f"the package reads it: {fault}") from fault
        raise
    entries = _entries(BytesSource(data), "safetensors")[0]
    found = {entry.name: b"".join(data[at : at + size] for at, size in entry.extents) for entry in entries}
    unheld = {entry.name for entry in entries if entry.kind == "refused"}
    if theirs is None or {name: b"" if name in unheld else content for name, content in theirs.items()} != found:
        raise Violation("the package does not find the same")


def _by_package(data: bytes) -> dict[str, bytes] | None:
    try:
        return {name: bytes(facts["data"]) for name, facts in safetensors.deserialize(data)}
    except safetensors.SafetensorError:
        return None


def _is_refused_on_purpose(data: bytes) -> bool:
    """Whether names come twice, or something stands before the brace: what the package lets pass."""
    text = data[8 : 8 + int.from_bytes(data[:8], "little")]
    twice = []

    def seen(pairs: list[tuple[str, object]]) -> dict[str, object]:
        twice.append(len(dict(pairs)) < len(pairs))
        return dict(pairs)

    json.loads(text, object_pairs_hook=seen)
    return text[:1] != b"{" or twice[-1]


def _entries(source: Source, form: str) -> tuple[list[Entry], str]:
    entries: list[Entry] = []
    try:
        entries.extend(scan(source, form))
    except LazyCkptError as error:
        return entries, f"{type(error)} {error}"
    return entries, ""


def _read_values(source: Source, entries: list[Entry], *others: Source, form: str = "ckpt") -> None:
    payloads, *rest = (Payloads(one, FORMATS[form]) for one in (source, *others))
    refused = None
    for entry in entries:
        if entry.kind == "refused":
            continue
        try:
            value = payloads.value(entry)
        except CorruptFile as error:  # a string of impossible characters
            refused = error
            continue
        for other in rest:
            if not _same(value, other.value(entry)):
                raise Violation(f"{entry.name!r} has another value when it is read by the byte")
    if refused is not None:
        raise refused


def _same(one: object, other: object) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    return one == other


# Strategy files: how ranks cut their parameters.


def strategy_seeds() -> list[Seed]:
    """The recorded strategies, protobuf and JSON."""
    files = [*SHARDED.rglob("*strategy*.ckpt"), *SHARDED.rglob("*strategy*.json"), *SHARDED.rglob("merged.*")]
    seeds = [path.read_bytes() for path in sorted(files) if path.stat().st_size <= LARGEST_SEED]
    return [Seed(data, list(range(len(data)))) for data in dict.fromkeys(seeds)]


def read_layouts(data: bytes) -> None:
    """Read a mutant, and cut as each of its layouts says."""
    path = _folder() / ("strategy.json" if data[:1] == b"{" else "strategy.ckpt")
    path.write_bytes(data)
    for layouts in read_strategy([str(path)]).values():
        for layout in layouts.values():
            with contextlib.suppress(ImpossibleLayout):
                cut = cut_of(layout)
                if sorted(rank for ranks in cut.holders().values() for rank in ranks) != list(range(len(cut.places))):
                    raise Violation("a rank holds no part, or two")


# Encrypted files: from frames to plaintext to values.

PLAIN = made.checkpoint(made.MIXED)
BLOCKS = (1000, len(PLAIN))
GENUINE = {part for block in BLOCKS for part in encryption.cut(PLAIN, block)}


def encrypted_seeds() -> list[Seed]:
    """One checkpoint in every mode, in one frame and in several."""
    seeds = []
    for mode, block in itertools.product(MODES, BLOCKS):
        data = encryption.encrypted(PLAIN, mode, block=block)
        frame = encryption.HEADER[mode]
        stored = block + (0 if mode == "AES-GCM" else 16 - block % 16)
        starts = range(0, len(data) - frame, frame + stored)
        seeds.append(Seed(data, [place for start in starts for place in range(start, min(len(data), start + frame))]))
    return seeds


def read_encrypted(data: bytes) -> None:
    """Decrypt with the mode that the first byte names, then scan and read every value.

    Of a GCM file no block comes that nobody encrypted. With the table of the sound file, which an index holds, none
    comes in another's place either.
    """
    for table in _tables():
        pinned = open_encrypted(BytesSource(data), Lock(MODES["AES-GCM"], Secret(encryption.KEY)), table)
        for start, block in _blocks(pinned):
            if block != PLAIN[start : start + len(block)]:
                raise Violation("a block is read that is not the one that was indexed")
    names = {mode.magic[0]: mode for mode in MODES.values()}
    mode = names.get(data[0] if data else 0, MODES["AES-GCM"])
    source = open_encrypted(BytesSource(data), Lock(mode, Secret(encryption.KEY)), cache=2**20)
    if mode.tagged and not {block for _, block in _blocks(source)} <= GENUINE:
        raise Violation("a block authenticates that nobody encrypted")
    _read_values(source, list(scan(source, "ckpt")))


@functools.cache
def _tables() -> list[FrameTable]:
    files = (encryption.encrypted(PLAIN, block=block) for block in BLOCKS)
    return [hop(BytesSource(file), MODES["AES-GCM"]) for file in files]


def _blocks(source: DecryptedSource) -> Iterator[tuple[int, bytes]]:
    """The blocks that authenticate, and where they stand in the plaintext."""
    for number in range(len(source.table)):
        frame = source.table[number]
        with contextlib.suppress(LazyCkptError):
            yield frame.plain, bytes(source.read(frame.plain, frame.length))


def load_encrypted(data: bytes) -> None:
    """The same from the outside: a file, loaded with its key in the mode that it names, cold and from its index."""
    path = _folder() / "net.ckpt"
    path.write_bytes(data)
    names = {mode.magic[0]: mode.name for mode in MODES.values()}
    mode = names.get(data[0] if data else 0, "AES-GCM")
    found = []
    for _ in ("cold", "warm"):
        with load_checkpoint(str(path), dec_key=encryption.KEY, dec_mode=mode) as checkpoint:
            values = checkpoint.load()
        found.append(values)
    cold, warm = found
    if list(cold) != list(warm) or not all(_same(cold[name], warm[name]) for name in cold):
        raise Violation("cold and warm, a file is not the same")


@functools.cache
def _folder() -> Path:
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # no disk is waited for
    folder = tempfile.TemporaryDirectory(prefix="lazyckpt-fuzz-", dir=memory)
    atexit.register(folder.cleanup)
    os.environ["LAZYCKPT_CACHE"] = folder.name
    return Path(folder.name)


# Records of an index: whatever they claim, no value comes of it but the one that the file has.

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
        Payloads(source, FORMATS["ckpt"]).value(entry._replace(digest=b""))
        if entry._replace(digest=b"") not in TRUE:
            raise Violation("a forged record led to a value")


# Sidecars: however damaged, an open checkpoint has the values of its file, or none; forged ones, too.

DEEP = {f"layer{place}.weight": made.counting((place % 5, 3)) for place in range(80)} | {
    "n" * 1000: made.counting((3,))
}
SLICED = made.sliced_value("sliced", made.counting((40, 40)), [40] * 160)  # whose record has pages of its own
HOUSES = {  # a checkpoint, and what it is opened with
    "mixed": (made.checkpoint(made.MIXED), {}),
    "deep": (made.checkpoint(DEEP) + SLICED, {}),
    "sealed": (encryption.encrypted(PLAIN, block=1000), {"dec_key": encryption.KEY}),
}
PAGE = 4096


def sidecar_seeds() -> list[Seed]:
    """The sidecars of three checkpoints. All that is not zero in them matters."""
    return [Seed(data, [place for place, byte in enumerate(data) if byte]) for data in map(_sidecar_of, HOUSES)]


@functools.cache
def _sidecar_of(name: str) -> bytes:
    path, _ = _house(name)
    load_checkpoint(str(path), **HOUSES[name][1]).close()
    return _beside(path).read_bytes()


@functools.cache
def _house(name: str) -> tuple[Path, dict[str, object]]:
    """A checkpoint in a folder of its own, and the values it has, as read without an index."""
    folder = _folder() / name
    folder.mkdir()
    path = folder / "net.ckpt"
    path.write_bytes(HOUSES[name][0])
    os.utime(path, ns=(10**18, 10**18))  # so that a mutant that was kept is still of this file
    with load_checkpoint(str(path), index="memory", **HOUSES[name][1]) as checkpoint:
        return path, checkpoint.load()


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".lmdb")


def read_beside(data: bytes) -> None:
    """Open a checkpoint with this sidecar beside it: as it is, and with checksums that fit, as a forger would."""
    name = max(HOUSES, key=lambda name: _likeness(data, _sidecar_of(name)))
    refused = None
    for sidecar, believed in ((data, False), (_summed(data), True)):
        try:
            _read_house(name, sidecar, believed=believed)
        except LazyCkptError as error:
            refused = error
    if refused is not None:
        raise refused


def _likeness(one: bytes, other: bytes) -> int:
    """How many pieces of two sidecars are the same: tells which checkpoint a mutant is meant for."""
    return sum(one[at : at + 64] == other[at : at + 64] for at in range(0, len(one), 64))


def _read_house(name: str, sidecar: bytes, *, believed: bool) -> None:
    path, truth = _house(name)
    _beside(path).write_bytes(sidecar)
    with load_checkpoint(str(path), **HOUSES[name][1]) as checkpoint:
        names = list(checkpoint)
        if not believed and (names != list(truth) or len(checkpoint) != len(truth)):
            raise Violation("damage is believed: the names are not those of the file")
        if believed:
            checkpoint.select("layer1").tree()
            checkpoint.summary()
        fault: Exception | None = None
        keys = list({*names[:: len(names) // 6 + 1], *list(truth)[:: len(truth) // 6 + 1]})
        try:
            found = [checkpoint.load(keys)]
        except (LazyCkptError, KeyError) as error:
            found = [value for key in keys for value in _loaded(checkpoint, key)]
            fault = error
        if not believed and isinstance(fault, KeyError):
            raise Violation(f"damage is believed: {fault} is not there")
        for values in found:
            for key, value in values.items():
                if key not in truth or not _same(value, truth[key]):
                    raise Violation(f"{key!r} is not the value of the file")
        if isinstance(fault, LazyCkptError):
            raise fault


def _loaded(checkpoint: Checkpoint, key: str) -> list[dict[str, object]]:
    try:
        return [checkpoint.load([key])]
    except (LazyCkptError, KeyError):
        return []


def _summed(data: bytes) -> bytes:
    """The pages of a mutant, as many as it says there are, with checksums that fit."""
    path = _folder() / "forged"
    count = min(len(data) // PAGE, max(int.from_bytes(data[at : at + 8], "little") for at in (136, PAGE + 136)) + 1)
    path.write_bytes(data)
    add_checksums(str(path), PAGE, count)
    return path.read_bytes()


def _exchange_pages(data: bytearray, place: int, pick: random.Random, _: list[Seed]) -> None:
    one, other = (PAGE * page for page in (place // PAGE, pick.randrange(len(data) // PAGE + 1)))
    data[one : one + PAGE], data[other : other + PAGE] = data[other : other + PAGE], data[one : one + PAGE]


def _foreign_page(data: bytearray, place: int, pick: random.Random, seeds: list[Seed]) -> None:
    """A page of another sidecar, or an older one."""
    other = pick.choice(seeds).data
    start = PAGE * pick.randrange(len(other) // PAGE)
    data[place // PAGE * PAGE : place // PAGE * PAGE + PAGE] = other[start : start + PAGE]


def _clear_page(data: bytearray, place: int, _: random.Random, __: list[Seed]) -> None:
    """What a disk gives that lost a page."""
    start = place // PAGE * PAGE
    data[start : start + PAGE] = bytes(len(data[start : start + PAGE]))


TARGETS = {
    "walker": Target(checkpoint_seeds, read_checkpoint),
    "safetensors": Target(safetensors_seeds, read_safetensors),
    "writing": Target(checkpoint_seeds, write_again),
    "strategies": Target(strategy_seeds, read_layouts),
    "encrypted": Target(encrypted_seeds, read_encrypted),
    "loading": Target(encrypted_seeds, load_encrypted),
    "records": Target(record_seeds, read_record, (LazyCkptError, BadRecord)),
}


# Mutation.


def mutants(seeds: list[Seed], seed: int | str, changes: tuple[Change, ...] | None = None) -> Iterator[bytes]:
    """Damaged files without end."""
    changes = changes or CHANGES
    pick = random.Random(seed)
    while True:
        data, hot = pick.choice(seeds)
        damaged = bytearray(data)
        for _ in range(pick.choice((1, 1, 1, 2, 3, 6))):
            change = pick.choice(changes)
            place = pick.choice(hot) if hot and pick.random() < 0.7 else pick.randrange(len(data) + 1)
            change(damaged, min(place, len(damaged)), pick, seeds)
        yield bytes(damaged)


def _flip(data: bytearray, place: int, pick: random.Random, _: list[Seed]) -> None:
    data[place : place + 1] = bytes(byte ^ 1 << pick.randrange(8) for byte in data[place : place + 1])


def _set(data: bytearray, place: int, pick: random.Random, _: list[Seed]) -> None:
    data[place : place + 1] = bytes([pick.choice(BYTES)])


def _step(data: bytearray, place: int, pick: random.Random, _: list[Seed]) -> None:
    """A length that is off by a little."""
    data[place : place + 1] = bytes((byte + pick.choice((-2, -1, 1, 2))) % 256 for byte in data[place : place + 1])


def _number(data: bytearray, place: int, pick: random.Random, _: list[Seed]) -> None:
    """A length, or a dimension, of any size, in shortest form or not."""
    data[place : place + pick.choice((0, 1, 1, 2))] = made.varint(pick.choice(NUMBERS), pick.choice((0, 0, 0, 1)))


def _word(data: bytearray, place: int, pick: random.Random, _: list[Seed]) -> None:
    """A number of fixed size, as frames and records have them."""
    size = pick.choice((2, 4, 8))
    data[place : place + size] = (pick.choice(NUMBERS) % 256**size).to_bytes(size, "little")


def _cut(data: bytearray, place: int, _: random.Random, __: list[Seed]) -> None:
    del data[place:]


def _remove(data: bytearray, place: int, pick: random.Random, _: list[Seed]) -> None:
    del data[place : place + pick.choice((1, 2, 8, 64, 1000))]


def _repeat(data: bytearray, place: int, pick: random.Random, _: list[Seed]) -> None:
    run = data[place : place + pick.choice((1, 2, 8, 64, 1000))]
    data[place:place] = run * pick.choice((1, 1, 2, 20))


def _move(data: bytearray, place: int, pick: random.Random, _: list[Seed]) -> None:
    run = data[place : place + pick.choice((2, 8, 64, 1000))]
    del data[place : place + len(run)]
    target = pick.randrange(len(data) + 1)
    data[target:target] = run


def _splice(data: bytearray, place: int, pick: random.Random, seeds: list[Seed]) -> None:
    other = pick.choice(seeds).data
    start = pick.randrange(len(other))
    data[place:] = other[start : start + LARGEST_SEED]


CHANGES = (_flip, _flip, _set, _set, _step, _step, _number, _number, _word, _cut, _remove, _repeat, _move, _splice)
TARGETS["sidecars"] = Target(
    sidecar_seeds,
    read_beside,
    changes=(*CHANGES, _exchange_pages, _foreign_page, _foreign_page, _clear_page),
    apart=True,
)


# The run.


class Outcome(NamedTuple):
    """What came of a target's mutants."""

    counts: Counter[str]
    slowest: float
    grown: int
    violations: list[str]

    def with_more(self, other: Outcome) -> Outcome:
        """This and what came of others."""
        return Outcome(
            self.counts + other.counts,
            max(self.slowest, other.slowest),
            max(self.grown, other.grown),
            self.violations + other.violations,
        )


def fuzz(name: str, seed: int, count: int | None, seconds: float | None, folder: Path) -> Outcome:
    """Read mutants until there were `count`, or `seconds` are over, or ten broke the contract."""
    target = TARGETS[name]
    seeds = target.seeds()
    end = time.monotonic() + (seconds or 0)
    if not target.apart:
        damaged = enumerate(mutants(seeds, seed, target.changes))
        return _run(name, f"{seed}", itertools.islice(damaged, count), end if count is None else None, folder, int)
    total, batch = Outcome(Counter(), 0.0, 0, []), 0
    while (count is None and time.monotonic() < end) or (count is not None and batch * _BATCH < count):
        mark, left = f"{seed}-{batch}", _BATCH if count is None else count - batch * _BATCH
        damaged = enumerate(itertools.islice(mutants(seeds, mark, target.changes), min(left, _BATCH)))
        total = total.with_more(_in_child(name, mark, damaged, end if count is None else None, folder))
        batch += 1
        if len(total.violations) >= 10:
            break
    return total


def _run(
    name: str,
    mark: str,
    damaged: Iterable[tuple[int, bytes]],
    end: float | None,
    folder: Path,
    starting: Callable[[int], object],
) -> Outcome:
    target, counts, violations = TARGETS[name], Counter[str](), list[str]()
    slowest, before = 0.0, _memory()
    for number, mutant in damaged:
        if (end is not None and time.monotonic() >= end) or len(violations) == 10:
            break
        starting(number)
        outcome, fault, took = judge(target, mutant)
        grown = _memory() - before
        if grown > MOST_MEMORY:
            fault = fault or f"the process grew by {grown / 2**20:.0f} MiB"
            before += grown
        if took > SLOWEST:
            fault = fault or f"it took {took:.2f} s"
        counts[outcome] += 1
        slowest = max(slowest, took)
        if fault:
            violations.append(f"{_kept(folder, name, mark, number, mutant)}: {fault}")
    return Outcome(counts, slowest, _memory() - before, violations)


def _kept(folder: Path, name: str, mark: str, number: int, mutant: bytes) -> Path:
    path = folder / f"fuzz-{name}-{mark}-{number}.bin"
    path.write_bytes(mutant)
    return path


def _in_child(name: str, mark: str, damaged: Iterator[tuple[int, bytes]], end: float | None, folder: Path) -> Outcome:
    """Read mutants in a forked process. If it dies, the mutant that it was at is a violation."""
    batch = list(damaged)
    current = mmap.mmap(-1, 8)  # the number of the mutant that is read

    def starting(number: int) -> None:
        current[:8] = struct.pack("<q", number)

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(_LONGEST)  # a batch that hangs dies of it
        try:
            os.write(writing, pickle.dumps(_run(name, mark, batch, end, folder, starting)))
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if told and status == 0:
        return pickle.loads(told)
    (number,) = struct.unpack("<q", current[:8])
    path = _kept(folder, name, mark, number, batch[number][1])
    return Outcome(Counter(died=1, read=number), 0.0, 0, [f"{path}: the process died ({status})"])


def judge(target: Target, mutant: bytes) -> tuple[str, str, float]:
    """Read a mutant: whether it was read or refused, what is wrong with that, and how long it took.

    One that seems slow is read twice more, and its best time counts: the machine may have been busy.
    """
    outcome, fault, took = _read(target, mutant)
    for _ in range(2):
        if took > SLOWEST:
            took = min(took, _read(target, mutant)[2])
    return outcome, fault, took


def _read(target: Target, mutant: bytes) -> tuple[str, str, float]:
    start, outcome, fault = time.perf_counter(), "read", ""
    try:
        target.read(mutant)
    except target.allowed as error:
        outcome = "refused"
        if not isinstance(error, ValueError):
            fault = f"{type(error).__name__} is no ValueError: {error}"
    except Exception as error:  # noqa: BLE001 (whatever else comes is what is looked for)
        outcome, fault = "broken", f"{type(error).__name__}: {error}"
    return outcome, fault, time.perf_counter() - start


def _memory() -> int:
    """The most memory that the process has had, in bytes.

    From where Linux keeps it for this program; what `getrusage` tells may be that of the program that started it.
    """
    try:
        return int(_STATUS.search(Path("/proc/self/status").read_bytes())[1]) * 1024
    except (OSError, TypeError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(arguments: list[str] | None = None) -> int:
    """Fuzz, print one line a target, and return the exit code."""
    asked = _asked(arguments)
    names = asked.target or list(TARGETS)
    if asked.replay:
        outcome, fault, took = judge(TARGETS[names[0]], asked.replay.read_bytes())
        print(f"{asked.replay}: {outcome} in {took:.3f} s{', ' * bool(fault)}{fault}")
        return 1 if fault or took > SLOWEST else 0
    broken = 0
    for name in names:
        start = time.perf_counter()
        counts, slowest, grown, violations = fuzz(name, asked.seed, asked.count, asked.seconds, asked.folder)
        print(
            f"{name}: {counts.total():,} mutants (seed {asked.seed}), {counts['read']:,} read,"
            f" {counts['refused']:,} refused, {len(violations)} violations; slowest {slowest:.3f} s,"
            f" memory +{grown / 2**20:.0f} MiB, {time.perf_counter() - start:.0f} s in all",
            flush=True,
        )
        for violation in violations:
            print(f"  {violation}")
        broken += len(violations)
    return 1 if broken else 0


def _asked(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--count", type=int, metavar="N", help="mutants for each target (default 10000)")
    length.add_argument("--seconds", type=float, metavar="N", help="time for each target")
    parser.add_argument("--seed", type=int, default=0, help="of the mutants (default 0)")
    parser.add_argument("--target", action="append", choices=TARGETS, help="what to fuzz (default: everything)")
    parser.add_argument("--folder", type=Path, default=Path(), help="where mutants that break the contract go")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="read this file instead of mutants")
    asked = parser.parse_args(arguments)
    if asked.replay and len(asked.target or []) != 1:
        parser.error("--replay needs one --target")
    if asked.count is None and asked.seconds is None:
        asked.count = 10_000
    return asked


if __name__ == "__main__":
    sys.exit(main())
