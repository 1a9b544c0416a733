"""The folders of checkpoints, as `members` takes them: names and sizes, with those of each `rank_<N>` folder."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from typing import Final

from lazyckpt.errors import ArgumentTypeError, LazyCkptError, WrongFormat
from lazyckpt.sharding.members import Folder, of_folder, several
from lazyckpt.sources.paths import is_url, join, read, scan

LARGEST_FILE: Final = 2**28  # bytes; a strategy takes some hundred bytes per parameter
_RANK: Final = re.compile(r"rank_([0-9]{1,18})")


def read_folder(path: str) -> Folder:
    """The names and sizes of the files in a folder, and the names of its folders.

    A link from one checkpoint to another in the same folder (`latest.ckpt`) is left out: it is the same file.

    Raises, Cost: as `paths.scan`, and one call to the system for each checkpoint if there are several.
    """
    files: dict[str, int] = {}
    folders = []
    for name, is_folder, size in scan(path):
        if is_folder:
            folders.append(name)
        else:
            files[name] = size
    found = Folder(path, files, tuple(sorted(folders)))
    names = found.checkpoints()
    if len(names) > 1 and not is_url(path):
        for name in names:
            if os.path.islink(join(path, name)) and _leads_to_one_of(path, name, names):
                del files[name]
    return found


def _leads_to_one_of(folder: str, name: str, names: Collection[str]) -> bool:
    """Whether a link leads to another of these files in its folder."""
    place, target = os.path.split(os.path.realpath(join(folder, name)))
    return target != name and target in names and place == os.path.realpath(folder)


def rank_folders(folder: Folder) -> dict[int, Folder]:
    """The folders of the ranks, in the order of their numbers, without those that have no checkpoint.

    Raises:
        ArgumentValueError: two folders are of one rank.

    Cost: as `read_folder` for each of them.
    """
    found: dict[int, Folder] = {}
    for name in folder.folders:
        match = _RANK.fullmatch(name)
        if match is None:
            continue
        rank, inside = int(match[1]), read_folder(join(folder.path, name))
        if not inside.checkpoints() and not inside.listings():
            continue
        if rank in found:
            raise several(folder.path, (found[rank].path, inside.path), f"both are of rank {rank}: remove one")
        found[rank] = inside
    return dict(sorted(found.items()))


def description(path: str) -> str:
    """One sentence about what a folder holds, with advice how to open it. Raises nothing."""
    try:
        folder = read_folder(path)
        ranks = rank_folders(folder)
        if ranks:
            count = f"{len(ranks):,} ranks" if len(ranks) > 1 else "one rank"
            return f"it has the files of {count}: open them with lazyckpt.open_sharded and their strategy"
        return f"lazyckpt.open_sharded opens {of_folder(folder).what}; or give a file that is in it"
    except LazyCkptError as error:
        return str(error)


def listed(given: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str]:
    """Paths as strings.

    Raises:
        ArgumentTypeError: they are not paths.
    """
    try:
        paths = [given] if isinstance(given, (str, os.PathLike)) else list(given)
        found = [os.fspath(path) for path in paths]
    except TypeError:
        raise ArgumentTypeError(f"a folder, or paths of files, are needed, not {type(given).__name__}") from None
    if not all(isinstance(path, str) for path in found):
        raise ArgumentTypeError("paths are strings, not bytes")
    return found


def content_of(path: str, kind: str) -> bytes:
    """The bytes of a file that describes a run. `kind` names it in errors.

    Raises:
        MissingFile, UnreadableFile: it does not exist, or cannot be read.
        WrongFormat: it is larger than any such file.
    """
    data = read(path, LARGEST_FILE + 1, f"the {kind}")
    if len(data) > LARGEST_FILE:
        raise WrongFormat(f"it is too large for a {kind}", file=path)
    return data
