"""`salvage`: open what is whole of a damaged checkpoint.

Strategy: the headers are walked up to the damage. A value is whole if all its bytes are in the file, none of them in a
damaged block or in a doubtful run of zeros (see `zero_runs`). The parts of a set are opened one by one. The result is a
checkpoint like any other, with an index in memory, and a list of what is missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from lazyckpt.checkpoint import Checkpoint
from lazyckpt.display import printable
from lazyckpt.errors import (
    ArgumentValueError,
    CorruptFile,
    EncryptedFile,
    FileFault,
    LazyCkptError,
    MissingFile,
    NothingLoaded,
    WrongFormat,
    WrongKey,
)
from lazyckpt.explore.inventory import Sample
from lazyckpt.explore.zero_runs import ZeroRun, judge, zero_runs
from lazyckpt.formats import FORMATS, Format, format_of
from lazyckpt.formats.detect import HEAD, diagnose
from lazyckpt.formats.zero_tail import zeros_of
from lazyckpt.index.footer import Meta
from lazyckpt.index.open_file import OpenFile
from lazyckpt.index.selection import AllNames, SomeNames
from lazyckpt.index.store import MemoryStore
from lazyckpt.index.stored import StoredIndex
from lazyckpt.model.entry import REFUSED, Entry, Extent, entry_of
from lazyckpt.reading.reader import FileReader
from lazyckpt.sharding.concatenated import ConcatenatedIndex, concatenated_format
from lazyckpt.sharding.members import of_folder
from lazyckpt.sharding.rank_folders import rank_folders, read_folder
from lazyckpt.sharding.weight_map import parts_of, read_listing
from lazyckpt.sources import Source, open_source
from lazyckpt.sources.concatenated import ConcatenatedSource
from lazyckpt.sources.encryption.keys import OWN_MODE, AnySecret, DeferredKey, Key, secret_or_late
from lazyckpt.sources.encryption.whole_blocks import open_whole_blocks
from lazyckpt.sources.local import local_files
from lazyckpt.sources.paths import as_path, is_folder, is_listing, join, resolved


@dataclass(frozen=True)
class Salvage:
    """What is whole of a checkpoint: the result of `salvage`. Use it in a `with` block, or close it.

    Attributes:
        path: the file, or the listing.
        checkpoint: the values that are whole.
        lost: the names of the other values, as far as they are known.
        faults: what is wrong, a sentence for each damaged file. Empty if everything is whole.
        is_listed: whether all names are known. A `.ckpt` has no list of them, so the names after the damage are not.
    """

    path: str
    checkpoint: Checkpoint
    lost: tuple[str, ...]
    faults: tuple[str, ...]
    is_listed: bool = True

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing."""
        return not self.faults

    def __str__(self) -> str:
        count, lost = len(self.checkpoint), Sample()
        for name in self.lost:
            lost.add(repr(name))
        if self.is_complete:
            return f"all {count:,} values are whole"
        total = f"{'' if self.is_listed else 'at least '}{count + len(self.lost):,}"
        if self.is_listed or self.lost:
            known = f"{count:,} of {total} values {'is' if count == 1 else 'are'} whole"
        else:
            known = f"{count:,} value{' is' if count == 1 else 's are'} whole, and others may be lost"
        return printable("; ".join([known, *([f"lost: {lost}"] if self.lost else []), *self.faults]))

    def __repr__(self) -> str:
        return f"<Salvage of {self.path!r}: {self}>"

    def __enter__(self) -> Salvage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Returned arrays stay valid."""
        self.checkpoint.close()


def salvage(path: str | os.PathLike[str], key: Key | None = None) -> Salvage:
    """Open the values of a damaged checkpoint that are whole.

    >>> with lazyckpt.salvage("LeNet5-1_32.ckpt") as found:
    ...     print(found)
    all 8 values are whole

    Args:
        path: a `.ckpt` or safetensors file that is cut, or in which bytes are missing; or the listing or the folder of
            the parts of a set.
        key: the key of an encrypted file, or a `KeyReference`. The mode is read from the file.

    Returns:
        The whole values as a `Checkpoint`, and what is known of the others. It never replaces its own file when it is
        saved, unless `in_place=True` is given.

    Raises:
        NothingLoaded: no value is whole.
        WrongFormat: it is something else than a checkpoint.
        WrongKey, EncryptedFile: the file cannot be decrypted.
        MissingFile, UnreadableFile: it cannot be read.
        ArgumentTypeError, ArgumentValueError: `path` is not a path, or `key` is not a key.

    Cost: a walk over the headers, and a look at the zeros at the end of the file. An AES-GCM file is decrypted once.
    Nothing is written.
    """
    try:
        secret = secret_or_late(key)
    finally:
        key = None  # so that no traceback's variables show it
    late = secret if isinstance(secret, DeferredKey) else DeferredKey(lambda file, mode: secret)
    text = as_path(path)
    if is_listing(text):
        return _of_files(text, parts_of(text), read_listing(text), late)
    if is_folder(text):
        return _of_folder(text, late)
    return _of_file(text, late)


class _Part(NamedTuple):
    """What is whole of one file."""

    file: OpenFile
    lost: list[str]
    fault: CorruptFile | None
    is_listed: bool


def _of_file(path: str, key: AnySecret) -> Salvage:
    part = _open(resolved(path), key)
    if not len(part.file.index):
        part.file.close()
        raise _nothing(path, [] if part.fault is None else [part.fault.what])
    faults = [] if part.fault is None else [part.fault.what]
    if part.lost and not faults:
        faults = ["the others cannot be loaded"]
    return Salvage(path, _checkpoint(part.file), tuple(part.lost), tuple(faults), part.is_listed)


def _of_folder(path: str, key: AnySecret) -> Salvage:
    """The files in a folder that are one checkpoint, without those that are not there."""
    folder = read_folder(path)
    if rank_folders(folder):
        raise ArgumentValueError(f"{path} holds the files of ranks: open_sharded loads what is whole of these")
    missing: list[str] = []
    try:
        members = of_folder(folder)
    except MissingFile as error:
        names = folder.checkpoints()
        if not names:
            raise
        missing.append(str(error))
        return _of_files(path, [join(path, name) for name in names], {}, key, missing)
    if members.listing:
        return _of_files(members.listing, parts_of(members.listing), read_listing(members.listing), key)
    return _of_files(path, list(members.files), {}, key)


def _of_files(
    path: str, files: list[str], homes: Mapping[str, str], key: AnySecret, missing: Iterable[str] = ()
) -> Salvage:
    """What is whole of several files. `homes` are the names that a listing gives to each."""
    parts: list[_Part] = []
    faults = list(missing)
    try:
        for file in files:
            try:
                parts.append(_open(resolved(file), key))
            except (EncryptedFile, WrongKey):  # another key may do
                raise
            except LazyCkptError as error:
                if isinstance(error, FileFault):
                    error.file = os.path.basename(file)
                faults.append(str(error))
        names = [os.path.basename(file.source.name) for file, *_ in parts]
        faults += [f"{name}: {part.fault.what}" for name, part in zip(names, parts, strict=True) if part.fault]
        if not any(len(part.file.index) for part in parts):
            raise _nothing(path, faults)
        places = _places(path, homes, names, parts, faults)
        whole = ConcatenatedSource(path, [part.file.source for part in parts], local_files([path]))
        index = ConcatenatedIndex([part.file.index for part in parts], whole.bases, places)
        joined = OpenFile(whole, concatenated_format(parts[0].file.format, whole), index, is_partial=True)
    except BaseException:
        for part in parts:
            part.file.close()
        raise
    known = dict.fromkeys([*homes, *(name for part in parts for name in part.lost)])
    lost = tuple(name for name in known if name not in places)
    if lost and not faults:
        faults = ["the others are in no part"]
    ordinals = {name: ordinal for name in places if (ordinal := index.position(name)) is not None}
    return Salvage(
        path, Checkpoint(FileReader(joined), SomeNames(ordinals)), lost, tuple(faults), bool(homes) or not faults
    )


def _places(
    path: str, homes: Mapping[str, str], names: list[str], parts: list[_Part], faults: list[str]
) -> dict[str, int]:
    """The part of each whole value. One that is in several parts is whole only if the listing says in which."""
    places: dict[str, int] = {}
    several, elsewhere = Sample(), Sample()
    for number, (file, part) in enumerate(zip(names, parts, strict=True)):
        for name in part.file.index:
            if name in places:
                several.add(repr(name))
            if name not in places or homes.get(name) == file:
                places[name] = number
    for name in [name for name in homes if name in places and homes[name] != names[places[name]]]:
        elsewhere.add(repr(name))
    if several.count:
        faults.append(f"several files have {several}")
        if not homes:
            raise CorruptFile(f"several files have {several}: give one of them", file=path)
    if elsewhere.count:
        faults.append(f"the listing says that others have {elsewhere}")
    return places


def _checkpoint(file: OpenFile) -> Checkpoint:
    return Checkpoint(FileReader(file), AllNames(file.index))


def _nothing(path: str, faults: list[str]) -> NothingLoaded:
    return NothingLoaded("; ".join(["no value is whole", *faults]), file=path)


def _open(path: str, key: AnySecret) -> _Part:
    """Open what is whole of a file."""
    raw = open_source(path, key, OWN_MODE)
    try:
        source, lost, fault = (raw.source, (), None) if raw.lock is None else open_whole_blocks(raw.source, raw.lock)
        form = FORMATS["ckpt" if raw.lock is not None else format_of(source)]
        entries, error = _walk(source, form)
        fault = fault or error
        if raw.lock is None:
            lost, fault = _zeros(source, entries, fault)
        whole, missing = _sort(entries, lost, exact=raw.lock is not None)
        if fault is not None and not whole:
            other = diagnose(bytes(source.snapshot(0, min(HEAD, source.size))), form.name)
            if other is not None:
                raise WrongFormat(other, file=path) from fault
        facts = Meta(raw.origin.fingerprint, format=form.name)
        index = StoredIndex(MemoryStore(whole, facts))
        file = OpenFile(source, _readable(form, source), index, raw.origin, is_partial=True)
        return _Part(file, missing, fault, is_listed=form.name != "ckpt" or (error is None and raw.lock is None))
    except BaseException:
        raw.source.close()
        raise


def _walk(source: Source, form: Format) -> tuple[list[Entry], CorruptFile | None]:
    """The values up to the damage, and the damage."""
    entries: list[Entry] = []
    try:
        entries.extend(map(entry_of, form.find_whole(source)))
    except CorruptFile as error:
        return entries, error
    return entries, None


def _zeros(
    source: Source, entries: list[Entry], fault: CorruptFile | None
) -> tuple[tuple[Extent, ...], CorruptFile | None]:
    """The runs of zeros that are damage, and the fault with these in its words."""
    runs: tuple[ZeroRun, ...] = ()
    if fault is not None:
        begin = zeros_of(source, fault)
        runs = () if begin is None else (ZeroRun(begin, source.size, False),)
    else:
        doubt = judge(entries, zero_runs(source, sampled=False), source.size)
        if doubt is not None and doubt.why:
            runs, fault = doubt.runs, CorruptFile(doubt.damage, offset=doubt.runs[0].begin, file=source.name)
    return tuple(Extent(run.begin, run.end - run.begin) for run in runs), fault


def _sort(entries: Iterable[Entry], lost: tuple[Extent, ...], exact: bool) -> tuple[list[Entry], list[str]]:
    """The values that are whole, and the names of the others. The last value of a name counts.

    Args:
        entries: the values.
        lost: the ranges that are lost.
        exact: whether they are known exactly. Zeros are not: an element may end in zeros by itself.
    """
    runs = [ZeroRun(begin, begin + length, False) for begin, length in lost]
    whole: dict[str, Entry | None] = {}
    for entry in entries:
        if not entry.apart and any(run.begin < _contents(entry) and run.end > entry.start for run in runs):
            break  # a damaged header, after which the offset of the next one is unknown
        touched = any(run.overlaps(entry) if exact else run.touches(entry) for run in runs)
        whole[entry.name] = None if touched or entry.kind == REFUSED else entry
    found = [entry for entry in whole.values() if entry is not None]
    return found, [name for name, entry in whole.items() if entry is None]


def _contents(entry: Entry) -> int:
    return min((extent.offset for extent in entry.all_extents), default=entry.stop)


def _readable(form: Format, source: Source) -> Format:
    """The format, for a file whose metadata and checksum may not be there."""
    try:
        facts = dict(form.metadata(source))
    except LazyCkptError:
        facts = {}
    return form._replace(metadata=lambda _: facts, checksums=lambda _: (None, 0))
