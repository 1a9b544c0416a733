"""The files of a distributed checkpoint: the newest one in each `rank_<N>` folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Final

from lazyckpt.errors import ArgumentTypeError, MissingFile, WrongFormat
from lazyckpt.formats import ENDINGS
from lazyckpt.sources.paths import is_file, is_folder, join, names_in, read

LARGEST_FILE: Final = 2**28  # bytes; a strategy takes some hundred bytes per parameter
_RANK: Final = re.compile(r"rank_(\d+)$")
_STEP: Final = re.compile(r"-(\d+)_(\d+)\.\w+$")


def rank_files(folder: str) -> dict[int, str]:
    """The file of each rank whose folder has one; of several, that of the newest (epoch, step)."""
    found: dict[int, str] = {}
    for name in sorted(names_in(folder)):
        match = _RANK.fullmatch(name)
        inside = join(folder, name)
        if match is None or not is_folder(inside):
            continue
        files = checkpoints_in(inside)
        if files:
            found[int(match[1])] = max(files, key=_age)
    return dict(sorted(found.items()))


def checkpoints_in(folder: str) -> list[str]:
    """The checkpoints directly in a folder, sorted by name."""
    names = sorted(name for name in names_in(folder) if name.endswith(ENDINGS) and not name.startswith("."))
    return [path for path in (join(folder, name) for name in names) if is_file(path)]


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


def need(found: list[str], where: str) -> list[str]:
    """The files, if there are any.

    Raises:
        MissingFile: there are none.
    """
    if not found:
        raise MissingFile(f"there is no checkpoint ({' or '.join(ENDINGS)}) in {where}")
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


def _age(path: str) -> tuple[int, int, str]:
    match = _STEP.search(path)
    return (int(match[1]), int(match[2]), path) if match else (-1, -1, path)
