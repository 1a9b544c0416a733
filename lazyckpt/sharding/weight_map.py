"""Sets: a checkpoint in several files, named in a `<name>.<format>.index.json` as other libraries write it.

    {"metadata": {…}, "weight_map": {"name": "model-00001-of-00002.safetensors", …}}

Strategy: each file has an index of its own; together they are read as one source with one index. The listing is held
against the files: a name must be where the listing says, and nowhere else. What a file holds and the listing does not
mention is part of the checkpoint all the same, as in transformers, which loads files whole. Parts stand beside the
listing and nowhere else; where it is a symbolic link (as in the cache of the Hugging Face Hub), beside the link,
or else beside what it leads to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from lazyckpt.errors import ArgumentValueError, CorruptFile, LazyCkptError, MissingFile
from lazyckpt.formats import FORMATS, Format
from lazyckpt.index import Index
from lazyckpt.index.build import AUTO, MEMORY, Found, Wishes, open_indexed
from lazyckpt.reading.handles import Handle, Hold, handle_of
from lazyckpt.reading.reader import Payloads
from lazyckpt.sharding.concatenated import JoinedIndex, joined
from lazyckpt.sources import Source
from lazyckpt.sources.concatenated import JoinedSource
from lazyckpt.sources.encryption.keys import AnySecret, Secret
from lazyckpt.sources.local import local_files
from lazyckpt.sources.paths import absolute, folder_of, is_url, join, read, resolved

SUFFIX: Final = ".index.json"
_WEIGHT_MAP: Final = "weight_map"


class OpenedSet(NamedTuple):
    """The files of a set as one, or a file as a set of one, and how they are opened again (None if they cannot be)."""

    source: Source
    entries: Index
    format: Format
    handle: Handle | None = None

    def payloads(self) -> Payloads:
        """What reads the values."""
        hold = None if self.handle is None else Hold(self.handle, self.source, self.entries)
        return Payloads(self.source, self.format, hold)

    def close(self) -> None:
        """Let go of files and indexes."""
        self.source.close()
        self.entries.close()


def is_listing(path: str) -> bool:
    """Whether a name is that of a set's listing."""
    return path.endswith(SUFFIX)


def open_path(path: str, key: AnySecret, dec_mode: str, where: str, wishes: Wishes) -> OpenedSet:
    """Open a file, links resolved, or what a listing names. Raises, Cost: as `build_index`, or as `open_set`."""
    if is_listing(path):
        opened = open_set(path, key, dec_mode, where, wishes)
        return opened._replace(handle=_handle(absolute(path), key, dec_mode, where, wishes))
    found = open_indexed(path, key, dec_mode, where, wishes)
    form = FORMATS[found.format]
    return OpenedSet(found.source, found.entries, form, _handle(path, key, dec_mode, where, wishes))


def _handle(path: str, key: AnySecret, dec_mode: str, where: str, wishes: Wishes) -> Handle:
    """How other processes, in whatever folder they are, open a path again."""
    place = where if where in (AUTO, MEMORY) else os.path.abspath(where)
    again = Wishes(digest=wishes.digest, sealed=wishes.sealed, cache=wishes.cache, format=wishes.format)
    return handle_of(_reopened, (path, dec_mode, place, again), key)


def _reopened(path: str, dec_mode: str, where: str, wishes: Wishes, key: Secret | None) -> Payloads:
    return open_path(path, key, dec_mode, where, wishes).payloads()


def open_set(path: str, key: AnySecret, dec_mode: str, where: str, wishes: Wishes) -> OpenedSet:
    """Open the files that a listing names.

    Args:
        path: the listing.
        key: of encrypted parts.
        dec_mode: their mode.
        where: `auto` or `memory`: each part has an index of its own.
        wishes: how these are to be; `wishes.format` is the parts'.

    Raises:
        CorruptFile: the listing is none, leads out of its folder, or contradicts the files.
        MissingFile: a part is not there.
        ArgumentValueError: `where` is a path.

    Cost: that of opening each part, and a walk over all names.
    """
    if where not in (AUTO, MEMORY):
        raise ArgumentValueError(f"a set has an index for each part: index must be {AUTO!r} or {MEMORY!r}, not a path")
    homes = read_listing(path)
    files = sorted(set(homes.values()))
    parts: list[Found] = []
    folder = _folder(path, files)
    try:
        for file in files:
            part = join(folder, file)
            if not is_url(part) and not os.path.exists(part):
                raise MissingFile(f"{path}: its part {file} does not exist: get it, too")
            parts.append(open_indexed(resolved(part), key, dec_mode, where, wishes))
        indexes = [found.entries for found in parts]
        _compare(path, homes, dict(zip(files, indexes, strict=True)))
    except BaseException:
        for found in parts:
            found.close()
        raise
    whole = JoinedSource(path, [found.source for found in parts], local_files([path]))
    numbers = {file: number for number, file in enumerate(files)}
    entries = JoinedIndex(indexes, whole.bases, {name: numbers[file] for name, file in homes.items()})
    return OpenedSet(whole, entries, joined(FORMATS[wishes.format], whole))


def parts_of(path: str) -> list[str]:
    """The files that a listing names, in order. Raises: as `read_listing`."""
    files = sorted(set(read_listing(path).values()))
    folder = _folder(path, files)
    return [join(folder, file) for file in files]


def files_of(path: str) -> list[str]:
    """The files that a checkpoint is in: those that a listing names, else the one. Raises: as `read_listing`."""
    return parts_of(path) if is_listing(path) else [path]


def _folder(path: str, files: list[str]) -> str:
    """Where a listing's files are: beside it, or beside what it is a link to."""
    near, far = (folder_of(place) for place in (path, resolved(path)))
    return near if near == far or any(os.path.exists(os.path.join(near, file)) for file in files) else far


def read_listing(path: str) -> dict[str, str]:
    """Which name is in which file.

    Raises:
        CorruptFile: it is no listing, or names a file outside its own folder.
        UnreadableFile: it cannot be read.
    """
    try:
        listing = json.loads(read(path))
    except LazyCkptError:  # some of these are ValueErrors, too
        raise
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"the listing is no JSON: {error}", file=path) from None
    homes: Any = listing.get(_WEIGHT_MAP) if isinstance(listing, dict) else None
    if not isinstance(homes, dict) or not homes or not all(isinstance(file, str) for file in homes.values()):
        raise CorruptFile(f"the listing has no {_WEIGHT_MAP!r} of names and files", file=path)
    for name, file in homes.items():
        if file != os.path.basename(file) or file in ("", ".", "..") or "\0" in file or "\\" in file:
            raise CorruptFile(
                f"the listing names a file outside its folder: {file!r}; parts stand beside it",
                parameter=name,
                file=path,
            )
    return homes


def _compare(path: str, homes: Mapping[str, str], indexes: Mapping[str, Index]) -> None:
    """Hold a listing against its files."""
    seen: dict[str, str] = {}
    for file, index in indexes.items():
        for name in index:
            elsewhere = seen.setdefault(name, file)
            if elsewhere != file:
                raise CorruptFile(f"it is in two parts, {elsewhere} and {file}", parameter=name, file=path)
    for name, file in homes.items():
        if seen.get(name) != file:
            where = f"in {seen[name]}" if name in seen else "in no part"
            raise CorruptFile(f"the listing says it is in {file}, but it is {where}", parameter=name, file=path)
