"""`open_sharded`: many files as one checkpoint.

Files are opened one by one, each with an index of its own, and concatenated to one source. Parts hold different
parameters: the result has all their names. Ranks hold slices of the same parameters: a strategy says how to assemble
them (`shard_index`), and a read touches only the slices that it needs (`shard_reader`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

from lazyckpt.checkpoint import Checkpoint
from lazyckpt.display import printable
from lazyckpt.errors import (
    ArgumentValueError,
    CorruptFile,
    LazyCkptError,
    MissingFile,
    NothingLoaded,
    TooManyOpenFiles,
)
from lazyckpt.formats import FORMATS, Format
from lazyckpt.index import Index
from lazyckpt.index.build import AUTO, MEMORY, IndexOptions
from lazyckpt.index.open_file import Handle, OpenFile
from lazyckpt.index.selection import AllNames, Names, SomeNames
from lazyckpt.reading.correcting_reader import CorrectingReader
from lazyckpt.reading.reader import Reader
from lazyckpt.runtime import log
from lazyckpt.sharding import replicas
from lazyckpt.sharding.concatenated import ConcatenatedIndex, concatenated_format
from lazyckpt.sharding.file_opener import FileOpener, Finder
from lazyckpt.sharding.layout import rank_count
from lazyckpt.sharding.members import RANKS, STEP, Folder, Members, of_files, of_folder, of_listing
from lazyckpt.sharding.rank_folders import listed, rank_folders, read_folder
from lazyckpt.sharding.rank_members import of_ranks
from lazyckpt.sharding.shard_index import Rank, ShardedIndex, ShardResolver
from lazyckpt.sharding.shard_reader import ShardReader
from lazyckpt.sharding.steps import asked_step
from lazyckpt.sharding.strategy import Strategy, read_strategy, strategy_files
from lazyckpt.sharding.weight_map import format_of_name, names_in_set, names_of, open_set
from lazyckpt.sources import CACHE_BYTES
from lazyckpt.sources.concatenated import ConcatenatedSource
from lazyckpt.sources.encryption.cipher import DEFAULT_MODE
from lazyckpt.sources.encryption.keys import NO_KEY, AnySecret, Key, Secret, secret_or_late
from lazyckpt.sources.local import local_files
from lazyckpt.sources.paths import absolute, is_folder, is_listing, resolved

COLLISIONS: Final = ("refuse", "first", "last")
Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def open_sharded(
    folder_or_files: Paths, strategy: Paths | None = None, dec_key: Key | None = None, dec_mode: str = DEFAULT_MODE, *,
    index: str = AUTO, whole: bool = False, collisions: str = "refuse", check: bool = False,
    block_cache: int = CACHE_BYTES, step: int | str | None = None,
) -> Checkpoint:  # fmt: skip
    """Open a checkpoint in many files as one.

    Args:
        folder_or_files: a folder, the listing of a set, or the paths of parts, `.ckpt` or `.safetensors`. Of `rank_<N>`
            folders, the newest step that all needed ranks have whole is used; of a run's checkpoints
            (`net-<epoch>_<step>.ckpt`) the newest whole one. A listing or numbers (`-00001-of-00002`) say which files
            belong together; all of them must be there. Other files of a folder are parts.
        strategy: how ranks cut their parameters: a strategy file (protobuf, or JSON if its name ends so), merged of all
            pipeline stages or not, a folder of them, or several paths. Needed for rank folders, unless `whole`.
        dec_key: the key of encrypted files, or a `lazyckpt.KeyReference` to it.
        dec_mode: AES-GCM, AES-CBC or SM4-CBC.
        index: `auto` (each file's own, beside it or in the user's cache folder) or `memory`.
        whole: every rank's file holds whole tensors (saved with `integrated_save`): the lowest rank's are used.
        collisions: a name that several parts have is an error (`refuse`), or the `first` or the `last` part is used.
        check: compare all copies of every slice, which reads everything.
        block_cache: bytes of decrypted blocks to keep in memory, for each file.
        step: the step to open in place of the newest: `10`, `"1_10"` (epoch and step), or the name of a file.

    Returns:
        A checkpoint in which every name has its full shape. Reads, slices included, touch only the shards they need.
        The log says in one sentence which files were taken. A value that cannot be assembled (its only file is missing
        or damaged, or slices do not fit each other) raises `CorruptFile` with file and reason when it is read; the
        others load.

    Raises:
        MissingFile: there are no files, or no strategy, a part is missing, or no step is whole on all ranks.
        ArgumentTypeError, ArgumentValueError: an argument is wrong, or a folder holds several checkpoints.
        WrongFormat: the strategy file is something else, or the folder of a kind that cannot be opened as one.
        CorruptFile: a strategy is damaged, parts collide, or copies disagree (`check`).

    Cost: opening each file (its index is built the first time) and a walk over all names; no payload is read.
    """
    try:
        key = secret_or_late(dec_key)
    finally:
        dec_key = None  # so that no traceback's variables show it
    wanted = asked_step(step)
    if index not in (AUTO, MEMORY):
        raise ArgumentValueError(f"each file has an index of its own: index must be {AUTO!r} or {MEMORY!r}, not a path")
    if collisions not in COLLISIONS:
        raise ArgumentValueError(f"collisions must be one of {', '.join(COLLISIONS)}, not {collisions!r}")
    asked = _Asked(_paths(folder_or_files), _layouts(strategy), dec_mode, index, whole, collisions, block_cache, wanted)
    reader, names = _opened(asked, key, check)
    if reader.file.taken is not None:
        (log.warning if reader.file.taken.warns else log.info)("opened %s", reader.file.taken.what)
    return Checkpoint(reader, names)


def open_folder(
    folder: str, strategy: Paths | None = None, key: AnySecret = None, dec_mode: str = DEFAULT_MODE,
    step: str | None = None, where: str = AUTO,
) -> Checkpoint:  # fmt: skip
    """`open_sharded` for the commands, which say themselves what was taken (see `OpenFile.taken`)."""
    asked = _Asked(
        _paths(folder), _layouts(strategy), dec_mode, where, False, COLLISIONS[0], CACHE_BYTES, asked_step(step)
    )
    return Checkpoint(*_opened(asked, key, check=False))


def _paths(given: Paths) -> tuple[str, ...]:
    """Paths from which the same files are found in any working directory."""
    return tuple(absolute(path) if is_listing(path) else resolved(path) for path in listed(given))


def _layouts(strategy: Paths | None) -> tuple[str, ...] | None:
    """The paths of strategy files under their own names, which say their format."""
    return None if strategy is None else tuple(map(absolute, listed(strategy)))


class _Asked(NamedTuple):
    """The arguments of `open_sharded`, from which a handle opens the same files again."""

    paths: tuple[str, ...]
    strategy: tuple[str, ...] | None
    dec_mode: str
    where: str
    whole: bool
    collisions: str
    cache: int
    step: str | None
    members: Members | None = None  # which files were taken: later there may be a newer step


def _open_again(asked: _Asked, key: Secret | None) -> OpenFile:
    """`open_sharded`, called by a handle."""
    return _opened(asked, key, check=False)[0].file


def _opened(asked: _Asked, key: AnySecret, check: bool) -> tuple[Reader, Names]:
    strategy = None
    if asked.strategy is not None:
        strategy = read_strategy(file for path in asked.strategy for file in strategy_files(path))
    with FileOpener(key, asked.dec_mode, asked.where, asked.cache) as opener:
        members = asked.members or opener.members(_finder(asked, strategy))
        if members.listing:
            options = IndexOptions(cache=asked.cache, format=format_of_name(members.listing))
            file = open_set(members.listing, key, asked.dec_mode, asked.where, options, is_partial=True)
            return CorrectingReader(replace(file, taken=members)), names_of(file.index)
        pinned = asked._replace(members=members)
        handle = Handle(_open_again, (pinned,), NO_KEY if key is None else key.reference)
        if strategy is not None:
            return _merged(members, strategy, opener, pinned, handle, check)
        return _united(members, opener, pinned, handle)


def _finder(asked: _Asked, strategy: Strategy | None) -> Finder:
    """The function that finds the members, given the files that are broken."""
    path = asked.paths[0] if len(asked.paths) == 1 else ""
    if not path or is_listing(path) or not is_folder(path):
        if strategy is not None:
            raise MissingFile(
                f"a strategy is for rank_<N> folders, and there are none with a file in {asked.paths[:1]}"
            )
        if asked.step is not None:
            raise ArgumentValueError("step chooses among the files of a folder, and files are given")
        return lambda broken: of_files(asked.paths)
    folder = read_folder(path)
    ranks = rank_folders(folder)
    if strategy is not None and not ranks:
        raise MissingFile(f"a strategy is for rank_<N> folders, and there are none with a file in {path}")
    if ranks and strategy is None and not asked.whole:
        raise ArgumentValueError(
            f"{path} holds the files of {len(ranks):,} ranks: give the strategy that says how they are cut, or"
            " whole=True if each file holds whole tensors (integrated_save)"
        )
    if not ranks:
        return partial(_of_folder, folder, asked.step)
    return partial(of_ranks, ranks, path, None if strategy is None else rank_count(strategy), asked.step)


def _of_folder(folder: Folder, step: str | None, broken: Mapping[str, str]) -> Members:
    """The members of a folder without ranks; a listing is read."""
    found = of_folder(folder, step, broken)
    return of_listing(folder, found, names_in_set(found.listing)) if found.listing else found


def _united(members: Members, opener: FileOpener, asked: _Asked, handle: Handle) -> tuple[Reader, Names]:
    """Open parts that hold different names."""
    files = list(members.files)
    parts = [opener.opened(file) for file in files]
    indexes = [part.index for part in parts]
    collisions = "first" if members.kind == RANKS else asked.collisions
    name = files[0] if members.kind == STEP else asked.paths[0]
    whole = ConcatenatedSource(name, [part.source for part in parts])
    index = ConcatenatedIndex(indexes, whole.bases)
    form = concatenated_format(_one_format(zip(files, parts, strict=True)), whole)
    names = _names(index, indexes, files, collisions)
    opener.keep(members.files)
    was_indexed = any(part.was_indexed for part in parts)
    return CorrectingReader(OpenFile(whole, form, index, handle=handle, was_indexed=was_indexed, taken=members)), names


def _names(index: ConcatenatedIndex, indexes: list[Index], files: list[str], collisions: str) -> Names:
    ordinals: dict[str, int] = {}
    homes: dict[str, str] = {}
    ordinal = -1
    for file, part in zip(files, indexes, strict=True):
        for name in part:
            ordinal += 1
            elsewhere = homes.setdefault(name, file)
            if elsewhere != file and collisions == "refuse":
                raise CorruptFile(
                    f"it is in {printable(elsewhere)} and in {printable(file)}: they are not parts of one checkpoint;"
                    " give the file that you want",
                    parameter=name,
                )
            if elsewhere == file or collisions == "last":
                ordinals[name] = ordinal
    if not ordinals:
        raise NothingLoaded("there is no parameter in any of the files", file=files[0])
    return AllNames(index) if len(ordinals) == len(index) else SomeNames(ordinals)


def _merged(
    members: Members, strategy: Strategy, opener: FileOpener, asked: _Asked, handle: Handle, check: bool
) -> tuple[Reader, Names]:
    """Open ranks that hold slices of the same names."""
    parts: dict[str, OpenFile] = {}
    ranks: dict[int, Rank] = {}
    base = 0
    for number, file in zip(members.ranks, members.files, strict=True):
        try:
            opened = opener.opened(file)
        except TooManyOpenFiles:  # says nothing about the file
            raise
        except LazyCkptError as error:
            why = str(error)
            log.warning("the file of rank %d cannot be read, what only it has will not load: %s", number, why)
            ranks[number] = Rank(file, None, base, why)
            continue
        parts[file] = opened
        ranks[number] = Rank(file, opened.index, base)
        base += opened.source.size
    folder = asked.paths[0]
    if not parts:
        raise MissingFile(f"no rank's file in {folder} can be read: {next(iter(ranks.values())).fault}")
    strategies = [file for path in asked.strategy or () for file in strategy_files(path)]
    whole = ConcatenatedSource(folder, [part.source for part in parts.values()], local_files(strategies))
    resolver = ShardResolver(ranks, strategy)
    index = ShardedIndex(resolver, ranks)
    form = concatenated_format(_one_format(parts.items()), whole)
    if not len(index):
        raise NothingLoaded("there is no parameter in any rank's file", file=folder)
    if check:
        replicas.compare_copies(resolver, index, whole)
    opener.keep(members.files)
    was_indexed = any(part.was_indexed for part in parts.values())
    whole_file = OpenFile(whole, form, index, handle=handle, was_indexed=was_indexed, taken=members)
    return ShardReader(whole_file), AllNames(index)


def _one_format(parts: Iterable[tuple[str, OpenFile]]) -> Format:
    forms: dict[str, str] = {}
    for file, part in parts:
        forms.setdefault(part.format.name, file)
    if len(forms) > 1:
        listing = ", ".join(f"{file} is {form}" for form, file in forms.items())
        raise ArgumentValueError(f"all files must be of one format: {listing}")
    return FORMATS[next(iter(forms), "ckpt")]
