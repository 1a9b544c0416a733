"""Sets: checkpoints in several files, listed in a `<name>.<format>.index.json`.

    {"metadata": {…}, "weight_map": {"name": "model-00001-of-00002.safetensors", …}}

MindSpore's `unified_safetensors` writes the same to a `param_name_map.json`, MindFormers only the names.

Each file has an index of its own; together they are read as one source with one index. The listing is compared with
the files: a name must be where the listing says, and nowhere else. A name that the listing lacks is still part
of the checkpoint, as in transformers, which loads files whole. The files must stand beside the listing. If the
listing is a symbolic link (as in the cache of the Hugging Face Hub), they stand beside the link or beside its target.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final

from lazyckpt.errors import ArgumentValueError, CorruptFile, LazyCkptError, MissingFile, UnreadableFile
from lazyckpt.formats import FORMATS
from lazyckpt.index import Index
from lazyckpt.index.build import AUTO, MEMORY, IndexOptions, handle_of, open_indexed
from lazyckpt.index.open_file import OpenFile
from lazyckpt.index.selection import AllNames, Names, SomeNames
from lazyckpt.sharding.concatenated import ConcatenatedIndex, RefusedNames, concatenated_format
from lazyckpt.sources.concatenated import ConcatenatedSource
from lazyckpt.sources.encryption.keys import AnySecret, Secret
from lazyckpt.sources.local import local_files
from lazyckpt.sources.paths import (
    LISTING,
    absolute,
    exists,
    file_name,
    folder_of,
    is_listing,
    is_name,
    is_name_map,
    is_url,
    join,
    read,
    resolved,
)

_WEIGHT_MAP: Final = "weight_map"
_HYPER_PARAMETERS: Final = "hyper_param.safetensors"  # what is not in the strategy, beside a `param_name_map.json`


def open_set(
    path: str, key: AnySecret, dec_mode: str, where: str, options: IndexOptions, is_partial: bool = False
) -> OpenFile:
    """Open the files that a listing names.

    Args:
        path: the listing.
        key: the key of encrypted parts.
        dec_mode: the mode of encrypted parts.
        where: `auto` or `memory`: each part has an index of its own.
        options: of these indexes; `options.format` is the format of the parts.
        is_partial: names about which the listing and the files disagree become refused entries, so that the others can
            be read; otherwise the first of them is an error.

    Raises:
        CorruptFile: the listing is invalid, leads out of its folder, or contradicts the files.
        MissingFile: a part does not exist.
        ArgumentValueError: `where` is a path.

    Cost: that of opening each part, and a walk over all names.
    """
    if where not in (AUTO, MEMORY):
        raise ArgumentValueError(f"a set has an index for each part: index must be {AUTO!r} or {MEMORY!r}, not a path")
    homes = read_listing(path)
    files = _files(path, homes)
    parts: list[OpenFile] = []
    folder = _folder(path, files)
    try:
        for file in files:
            part = _part(path, folder, file)
            if not is_url(part) and not os.path.exists(part):
                raise MissingFile(f"{path}: its part {file} does not exist: get it, too")
            parts.append(open_indexed(resolved(part), key, dec_mode, where, options))
        indexes = [opened.index for opened in parts]
        faults = listing_faults(homes, dict(zip(files, indexes, strict=True)))
        for name, why in faults.items():
            if not is_partial:
                raise CorruptFile(why, parameter=name, file=path)
    except BaseException:
        for opened in parts:
            opened.close()
        raise
    whole = ConcatenatedSource(path, [opened.source for opened in parts], local_files([path]))
    numbers = {file: number for number, file in enumerate(files)}
    places = {name: numbers[file] for name, file in homes.items()}
    bases = whole.bases
    if faults:  # the refused entries are one more part, without bytes
        places |= dict.fromkeys(faults, len(indexes))
        indexes, bases = [*indexes, RefusedNames(faults)], (*bases, 0)
    index = ConcatenatedIndex(indexes, bases, places)
    form = concatenated_format(FORMATS[options.format], whole)
    again = _open_again_in_part if is_partial else _open_again
    handle = handle_of(again, absolute(path), key, dec_mode, where, options)
    was_indexed = any(opened.was_indexed for opened in parts)
    return OpenFile(whole, form, index, handle=handle, was_indexed=was_indexed)


def _open_again(path: str, dec_mode: str, where: str, options: IndexOptions, key: Secret | None) -> OpenFile:
    """`open_set`, called by a handle."""
    return open_set(path, key, dec_mode, where, options)


def _open_again_in_part(path: str, dec_mode: str, where: str, options: IndexOptions, key: Secret | None) -> OpenFile:
    """`open_set` with the names that can be read, called by a handle."""
    return open_set(path, key, dec_mode, where, options, is_partial=True)


def names_of(index: Index) -> Names:
    """The names of a set that was opened in part, each once and where it is to be looked up."""
    names = dict.fromkeys(index)
    if len(names) == len(index):
        return AllNames(index)
    return SomeNames({name: position for name in names if (position := index.position(name)) is not None})


def parts_of(path: str) -> list[str]:
    """The files that a listing names, in order. Raises: as `read_listing`."""
    files = names_in_set(path)
    folder = _folder(path, files)
    return [_part(path, folder, file) for file in files]


def names_in_set(path: str) -> list[str]:
    """The names of the files of a set, in order. Raises: as `read_listing`."""
    return _files(path, read_listing(path))


def _files(path: str, homes: Mapping[str, str]) -> list[str]:
    """The names of the files of a set: those of its listing, and the one that MindSpore writes without listing it."""
    files = set(homes.values())
    if is_name_map(path) and exists(join(folder_of(path), _HYPER_PARAMETERS)):
        files.add(_HYPER_PARAMETERS)
    return sorted(files)


def files_of(path: str) -> list[str]:
    """The files of a checkpoint: those that a listing names, or the one file. Raises: as `read_listing`."""
    return parts_of(path) if is_listing(path) else [path]


def format_of_name(path: str) -> str:
    """The format of the files of a listing, by its name."""
    is_safetensors = is_name_map(path) or file_name(path).removesuffix(LISTING).endswith("safetensors")
    return "safetensors" if is_safetensors else "ckpt"


def _part(path: str, folder: str, file: str) -> str:
    """The path or URL of a file that the listing at `path` names."""
    try:
        return join(folder, file)
    except UnreadableFile as error:
        raise CorruptFile(f"the listing names a file that cannot be opened: {error}", file=path) from None


def _folder(path: str, files: list[str]) -> str:
    """The folder of the files: that of the listing, or of the file that it links to."""
    near, far = (folder_of(each) for each in (path, resolved(path)))
    return near if near == far or any(os.path.exists(join(near, file)) for file in files) else far


def read_listing(path: str) -> dict[str, str]:
    """Read a listing: name -> file.

    Raises:
        CorruptFile: it is not a listing, or names a file outside its own folder.
        UnreadableFile: it cannot be read.
    """
    try:
        listing = json.loads(read(path))
    except LazyCkptError:  # some of these are ValueErrors, too
        raise
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"the listing is not valid JSON: {error}", file=path) from None
    homes: Any = listing.get(_WEIGHT_MAP) if isinstance(listing, dict) else None
    if homes is None and is_name_map(path):
        homes = listing  # MindFormers writes the names alone
    if not isinstance(homes, dict) or not homes or not all(isinstance(file, str) for file in homes.values()):
        raise CorruptFile(f"the listing has no {_WEIGHT_MAP!r} of names and files", file=path)
    for name, file in homes.items():
        if not is_name(file) or "\\" in file:
            raise CorruptFile(
                f"the listing names a file outside its folder: {file!r}; parts stand beside it",
                parameter=name,
                file=path,
            )
    return homes


def listing_faults(homes: Mapping[str, str], indexes: Mapping[str, Index]) -> dict[str, str]:
    """The names about which a listing and its files disagree, each with the reason. Pure.

    Args:
        homes: name -> file, as the listing has it.
        indexes: file -> its index.

    Cost: a walk over all names.
    """
    seen: dict[str, str] = {}
    faults: dict[str, str] = {}
    for file, index in indexes.items():
        for name in index:
            elsewhere = seen.setdefault(name, file)
            if elsewhere != file:
                faults[name] = f"it is in two parts, {elsewhere} and {file}"
    for name, file in homes.items():
        if seen.get(name) != file and name not in faults:
            where = f"in {seen[name]}" if name in seen else "in no part"
            faults[name] = f"the listing says it is in {file}, but it is {where}"
    return faults
