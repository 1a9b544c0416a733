"""Write files of values atomically, each with its index.

Strategy: all checks are made before the first byte is written. A file is written under a private name, with one piece
in memory at a time, synced, and renamed over the old one: processes that have the old file mapped keep it. The index is
written at the same time, from what the writer knows (for safetensors, from the header), and is renamed right after the
file; if that fails, only the index is lost.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import BinaryIO, Final, NamedTuple

from lazyckpt.errors import (
    ArgumentTypeError,
    ArgumentValueError,
)
from lazyckpt.formats import find
from lazyckpt.formats.safetensors import CRC
from lazyckpt.index import locations
from lazyckpt.index.footer import Meta
from lazyckpt.model.entry import MAP, Fingerprint
from lazyckpt.runtime.atomic_write import atomic_write, file_errors, remove, temporary
from lazyckpt.runtime.folders import resolved_output
from lazyckpt.runtime.workers import Progress
from lazyckpt.sources.encryption.cipher import CipherKey
from lazyckpt.sources.local import open_local
from lazyckpt.writing import ckpt, safetensors
from lazyckpt.writing.items import Item, Items, WriteProgress
from lazyckpt.writing.sidecar import SidecarBuilder, open_sidecar_builder
from lazyckpt.writing.sink import EncryptingSink, PlainSink

SAVED_HERE: Final = "files are written on this machine: give a path, then upload the files"
READ_ONLY: Final = 0o400  # the mode of files that MindSpore saves
ALIGNMENT: Final = 64
MOST_ALIGNMENT: Final = 4096
SET_SUFFIX: Final = ".index.json"  # of the file that lists the parts of a set, as in other tools
_CHECKS: Final = {"ckpt": ckpt.check, "safetensors": safetensors.check}
_BATCH: Final = 4096  # entries
_BUFFER: Final = 2**20


class WriteOptions(NamedTuple):
    """Options for writing a file.

    Attributes:
        format: `ckpt` or `safetensors`.
        lock: the key and the mode to encrypt with, or None.
        crc: whether to store a checksum.
        align: start contents at multiples of so many bytes.
        mode: permission bits.
        metadata: of a safetensors file.
    """

    format: str = "ckpt"
    lock: CipherKey | None = None
    crc: bool = False
    align: int = ALIGNMENT
    mode: int = READ_ONLY
    metadata: Mapping[str, str] = MappingProxyType({})


def save(path: str, items: Items, how: WriteOptions, progress: Progress | None = None) -> None:
    """Write one file.

    Args:
        path: the file; links are followed.
        items: in order.
        how: format and options.
        progress: called as `progress(done, total)` with bytes of contents.

    Raises:
        ArgumentValueError: the format cannot hold an item, two items have one name, or options contradict each other.
        MissingFolder, FolderInTheWay, UnwritableFile: the file cannot be written. An old file stays.
    """
    check(items, how)
    _save(path, WriteProgress(_reads(items, how), progress).of(items), how)


def save_set(
    path: str, items: Items, how: WriteOptions, limit: int, progress: Progress | None = None,
    allowed: Callable[[Sequence[str]], object] = lambda _: None,
) -> list[str]:  # fmt: skip
    """Write one file, or parts of at most `limit` bytes of contents (or one larger value) each.

    Parts are named `<stem>-00001-of-00003.<ending>` and listed in `<path>.index.json`, which is written last. On an
    error the parts are removed. A process that is killed leaves the parts it had finished, each complete, and no
    listing; they are replaced when the same set is saved again.

    Args:
        path: where.
        items: in order.
        how: format and options.
        limit: bytes of contents of a part.
        progress: see `save`.
        allowed: called with the files that will be written, before any is; it raises if one must not be.

    Returns:
        The files written.

    Raises:
        ArgumentValueError: as `save`; or a set of this name exists.
    """
    check(items, how)
    parts = _divided(items, limit)
    if len(parts) == 1:
        allowed([path])
        save(path, items, how, progress)
        return [path]
    listing = path + SET_SUFFIX
    if os.path.exists(listing):
        raise ArgumentValueError(f"there is a set already: {listing}; remove it with its parts, or choose another name")
    stem, ending = os.path.splitext(path)
    names = [f"{stem}-{number:05}-of-{len(parts):05}{ending}" for number in range(1, len(parts) + 1)]
    allowed([*names, listing])
    count = WriteProgress(_reads(items, how), progress)
    new = [name for name in names if not os.path.exists(name)]
    made: list[str] = []
    try:
        for name, part in zip(names, parts, strict=True):
            _save(name, count.of(part), how)
            made.append(name)
        homes = {item.name: os.path.basename(name) for name, part in zip(names, parts, strict=True) for item in part}
        facts = {"metadata": {"total_size": sum(item.nbytes for item in items)}, "weight_map": homes}
        with file_errors(os.path.abspath(listing)):
            atomic_write(listing, lambda private: _write_json(private, facts), mode=how.mode)
    except BaseException:
        for name in set(made) & set(new):
            _remove(name)
        raise
    return [*made, listing]


def check(items: Items, how: WriteOptions) -> None:
    """Check that items can be written, and read again.

    Raises:
        ArgumentTypeError, ArgumentValueError: see `save`.
    """
    for what, number in (("align", how.align), ("mode", how.mode)):
        if not isinstance(number, int):
            raise ArgumentTypeError(f"{what} must be a number, not {type(number).__name__}")
    if how.format != "ckpt" and how.lock is not None:
        raise ArgumentValueError("safetensors files are not encrypted: leave the key out, or save as .ckpt")
    if how.crc and how.lock is not None:
        raise ArgumentValueError(
            "a checksum and a key exclude each other: MindSpore cannot load a file that has both. AES-GCM alone"
            " notices any damage"
        )
    if not 1 <= how.align <= MOST_ALIGNMENT or how.align & (how.align - 1):
        raise ArgumentValueError(f"align must be a power of two up to {MOST_ALIGNMENT}, not {how.align!r}")
    if how.format == "safetensors":
        safetensors.check_metadata(how.metadata)
    names: set[str] = set()
    for item in items:
        if item.name in names:
            raise ArgumentValueError(f"two values would have the name {item.name!r}")
        names.add(item.name)
        _CHECKS[how.format](item)
        if item.kind == MAP and (how.crc or how.lock is not None):
            what = "an encrypted file" if how.lock is not None else "a file with a checksum"
            raise ArgumentValueError(
                f"{item.name!r} is a map: MindSpore cannot load {what} that holds one; leave it out, or save without"
            )


def _save(path: str, items: Items, how: WriteOptions) -> None:
    path = resolved_output(path)
    with file_errors(path), temporary(path) as made, open_sidecar_builder(path, how.mode, how.lock) as index:
        with open(made.path, "r+b", buffering=_BUFFER) as file:
            facts, frames = _WRITERS[how.format](file, items, how, index)
        index.finish(facts, frames)
        made.commit(how.mode, durable=True)
        index.commit()


def _write_ckpt(file: BinaryIO, items: Items, how: WriteOptions, index: SidecarBuilder) -> tuple[Meta, bytes | None]:
    sink = PlainSink(file, crc=how.crc) if how.lock is None else EncryptingSink(file, how.lock)
    # Encrypted contents are decrypted into new memory, which is aligned anyway.
    written = ckpt.write(sink, items, align=how.align if how.lock is None else 1, crc=how.crc)
    while batch := list(islice(written, _BATCH)):
        index.add(batch)
    file.flush()
    if isinstance(sink, EncryptingSink):
        return index.seal(Meta(_fingerprint(file)), sink)
    return Meta(_fingerprint(file)), None


def _write_safetensors(file: BinaryIO, items: Items, how: WriteOptions, index: SidecarBuilder) -> tuple[Meta, None]:
    order = sorted(items, key=lambda item: item.offset)
    placed = safetensors.layout(order)
    metadata = safetensors.described(order, how.metadata)
    if how.crc:
        metadata[CRC] = str(safetensors.checksum(order))
    safetensors.write(file, placed, safetensors.header(placed, metadata, how.align), order)
    file.flush()
    source = open_local(file.name).source
    try:
        entries = find(source, "safetensors")
        while batch := list(islice(entries, _BATCH)):
            index.add(batch)
    finally:
        source.close()
    return Meta(_fingerprint(file), format="safetensors"), None


_WRITERS: Final = {"ckpt": _write_ckpt, "safetensors": _write_safetensors}


def _fingerprint(file: BinaryIO) -> Fingerprint:
    local = open_local(file.name)
    local.source.close()
    return local.origin.fingerprint


def _reads(items: Items, how: WriteOptions) -> int:
    """Bytes of contents to be read: twice the size if the header holds a checksum of them."""
    return sum(item.nbytes for item in items) * (2 if how.crc and how.format == "safetensors" else 1)


def _divided(items: Items, limit: int) -> list[list[Item]]:
    """Items in as few runs as possible, each within the limit, in order."""
    parts: list[list[Item]] = [[]]
    size = 0
    for item in items:
        if parts[-1] and size + item.nbytes > limit:
            parts.append([])
            size = 0
        parts[-1].append(item)
        size += item.nbytes
    return parts


def _write_json(path: str, data: object) -> None:
    text = json.dumps(data, indent=2, ensure_ascii=False)
    try:
        content = text.encode()
    except UnicodeEncodeError:  # a file name that is not UTF-8: escaped in JSON, and the same after reading
        content = json.dumps(data, indent=2).encode()
    with open(path, "wb") as file:
        file.write(content + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _remove(path: str) -> None:
    for name in (path, locations.beside(path)):
        with contextlib.suppress(OSError):
            remove(name)
