"""`open_sharded`: many files as one checkpoint.

Files are opened one by one, each with an index of its own, and concatenated to one source. Parts hold different
parameters: the result has all their names. Ranks hold slices of the same parameters: a strategy says how to assemble
them (`shard_index`), and a read touches only the slices that it needs (`shard_reader`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final, NamedTuple

from lazyckpt.checkpoint import Checkpoint
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
from lazyckpt.index.build import AUTO, MEMORY, IndexOptions, open_indexed
from lazyckpt.index.open_file import Handle, OpenFile
from lazyckpt.index.selection import AllNames, Names, SomeNames
from lazyckpt.reading.reader import FileReader, Reader
from lazyckpt.runtime import log
from lazyckpt.sharding import replicas
from lazyckpt.sharding.concatenated import ConcatenatedIndex, concatenated_format
from lazyckpt.sharding.rank_folders import checkpoints_in, listed, need, rank_files
from lazyckpt.sharding.shard_index import Rank, ShardedIndex, ShardResolver
from lazyckpt.sharding.shard_reader import ShardReader
from lazyckpt.sharding.strategy import Strategy, read_strategy, strategy_files
from lazyckpt.sources import CACHE_BYTES
from lazyckpt.sources.concatenated import ConcatenatedSource
from lazyckpt.sources.encryption.cipher import DEFAULT_MODE
from lazyckpt.sources.encryption.keys import NO_KEY, AnySecret, Key, Secret, secret_or_late
from lazyckpt.sources.local import local_files
from lazyckpt.sources.paths import absolute, is_folder, resolved

COLLISIONS: Final = ("refuse", "first", "last")
Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def open_sharded(
    folder_or_files: Paths, strategy: Paths | None = None, dec_key: Key | None = None, dec_mode: str = DEFAULT_MODE, *,
    index: str = AUTO, whole: bool = False, collisions: str = "refuse", check: bool = False,
    block_cache: int = CACHE_BYTES,
) -> Checkpoint:  # fmt: skip
    """Open a checkpoint in many files as one.

    Args:
        folder_or_files: a folder of `rank_<N>` folders (in each, the file of the newest epoch and step is used), a
            folder of parts, or the paths of parts, `.ckpt` or `.safetensors`.
        strategy: how ranks cut their parameters: a strategy file (protobuf, or JSON if its name ends so), merged of all
            pipeline stages or not, a folder of them, or several paths. Needed for rank folders, unless `whole`.
        dec_key: the key of encrypted files, or a `lazyckpt.KeyReference` to it.
        dec_mode: AES-GCM, AES-CBC or SM4-CBC.
        index: `auto` (each file's own, beside it or in the user's cache folder) or `memory`.
        whole: every rank's file holds whole tensors (saved with `integrated_save`): the lowest rank's are used.
        collisions: a name that several parts have is an error (`refuse`), or the `first` or the `last` part is used.
        check: compare all copies of every slice, which reads everything.
        block_cache: bytes of decrypted blocks to keep in memory, for each file.

    Returns:
        A checkpoint in which every name has its full shape. Reads, slices included, touch only the shards they need.
        A value that cannot be assembled (its only file is missing or damaged, or slices do not fit each other) raises
        `CorruptFile` with file and reason when it is read; the others load.

    Raises:
        MissingFile: there are no files, or no strategy.
        ArgumentTypeError, ArgumentValueError: an argument is wrong.
        WrongFormat: the strategy file is something else.
        CorruptFile: a strategy is damaged, parts collide, or copies disagree (`check`).

    Cost: opening each file (its index is built the first time) and a walk over all names; no payload is read.
    """
    try:
        key = secret_or_late(dec_key)
    finally:
        dec_key = None  # so that no traceback's variables show it
    if index not in (AUTO, MEMORY):
        raise ArgumentValueError(f"each file has an index of its own: index must be {AUTO!r} or {MEMORY!r}, not a path")
    if collisions not in COLLISIONS:
        raise ArgumentValueError(f"collisions must be one of {', '.join(COLLISIONS)}, not {collisions!r}")
    paths = tuple(map(resolved, listed(folder_or_files)))
    layouts = None if strategy is None else tuple(map(absolute, listed(strategy)))
    reader, names = _opened(_Asked(paths, layouts, dec_mode, index, whole, collisions, block_cache), key, check)
    return Checkpoint(reader, names)


class _Asked(NamedTuple):
    """The arguments of `open_sharded`, from which a handle opens the same files again."""

    paths: tuple[str, ...]
    strategy: tuple[str, ...] | None
    dec_mode: str
    where: str
    whole: bool
    collisions: str
    cache: int


def _open_again(asked: _Asked, key: Secret | None) -> OpenFile:
    """`open_sharded`, called by a handle."""
    return _opened(asked, key, check=False)[0].file


def _opened(asked: _Asked, key: AnySecret, check: bool) -> tuple[Reader, Names]:
    how = _How(asked, key)
    paths, strategy = asked.paths, asked.strategy
    folder = paths[0] if len(paths) == 1 and is_folder(paths[0]) else None
    ranks = rank_files(folder) if folder is not None else {}
    if strategy is not None:
        if not ranks:
            raise MissingFile(f"a strategy is for rank_<N> folders, and there are none with a file in {paths[0]}")
        layouts = read_strategy(file for path in strategy for file in strategy_files(path))
        return _merged(str(folder), ranks, layouts, how, check)
    if ranks and not asked.whole:
        raise ArgumentValueError(
            f"{folder} holds the files of {len(ranks):,} ranks: give the strategy that says how they are cut, or"
            " whole=True if each file holds whole tensors (integrated_save)"
        )
    files = list(ranks.values()) if ranks else checkpoints_in(folder) if folder is not None else list(paths)
    return _united(folder or paths[0], need(files, paths[0]), how, "first" if ranks else asked.collisions)


class _How(NamedTuple):
    """The options for opening each file."""

    asked: _Asked
    key: AnySecret

    def open(self, path: str) -> OpenFile:
        """Open a file with its index."""
        asked = self.asked
        return open_indexed(path, self.key, asked.dec_mode, asked.where, IndexOptions(cache=asked.cache))

    @property
    def handle(self) -> Handle:
        """A handle with which other processes open all files."""
        return Handle(_open_again, (self.asked,), NO_KEY if self.key is None else self.key.reference)


def _united(name: str, files: list[str], how: _How, collisions: str) -> tuple[Reader, Names]:
    """Open parts that hold different names."""
    parts: list[OpenFile] = []
    try:
        parts.extend(map(how.open, files))  # one by one, so that the files opened before an error are closed
        indexes = [part.index for part in parts]
        whole = ConcatenatedSource(name, [part.source for part in parts])
        index = ConcatenatedIndex(indexes, whole.bases)
        form = concatenated_format(_one_format(zip(files, parts, strict=True)), whole)
        names = _names(index, indexes, files, collisions)
    except BaseException:
        _close(parts)
        raise
    return FileReader(OpenFile(whole, form, index, handle=how.handle, was_indexed=_was_indexed(parts))), names


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
                    f"it is in {elsewhere} and in {file}; collisions='first' or 'last' takes one", parameter=name
                )
            if elsewhere == file or collisions == "last":
                ordinals[name] = ordinal
    if not ordinals:
        raise NothingLoaded("there is no parameter in any of the files", file=files[0])
    return AllNames(index) if len(ordinals) == len(index) else SomeNames(ordinals)


def _merged(folder: str, files: dict[int, str], strategy: Strategy, how: _How, check: bool) -> tuple[Reader, Names]:
    """Open ranks that hold slices of the same names."""
    parts: dict[str, OpenFile] = {}
    ranks: dict[int, Rank] = {}
    try:
        base = 0
        for number, file in files.items():
            try:
                opened = how.open(file)
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
        if not parts:
            raise MissingFile(f"no rank's file in {folder} can be read: {next(iter(ranks.values())).fault}")
        strategies = [file for path in how.asked.strategy or () for file in strategy_files(path)]
        whole = ConcatenatedSource(folder, [part.source for part in parts.values()], local_files(strategies))
        resolver = ShardResolver(ranks, strategy)
        index = ShardedIndex(resolver, ranks)
        form = concatenated_format(_one_format(parts.items()), whole)
        if not len(index):
            raise NothingLoaded("there is no parameter in any rank's file", file=folder)
        if check:
            replicas.compare_copies(resolver, index, whole)
    except BaseException:
        _close(parts.values())
        raise
    return ShardReader(
        OpenFile(whole, form, index, handle=how.handle, was_indexed=_was_indexed(parts.values()))
    ), AllNames(index)


def _was_indexed(parts: Iterable[OpenFile]) -> bool:
    """Whether the index of any part was there already."""
    return any(part.was_indexed for part in parts)


def _one_format(parts: Iterable[tuple[str, OpenFile]]) -> Format:
    forms: dict[str, str] = {}
    for file, part in parts:
        forms.setdefault(part.format.name, file)
    if len(forms) > 1:
        listing = ", ".join(f"{file} is {form}" for form, file in forms.items())
        raise ArgumentValueError(f"all files must be of one format: {listing}")
    return FORMATS[next(iter(forms), "ckpt")]


def _close(parts: Iterable[OpenFile]) -> None:
    for part in parts:
        part.close()
