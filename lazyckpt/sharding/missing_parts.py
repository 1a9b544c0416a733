"""The parts that sets in a folder lack, for commands that take every file in it one by one."""

from __future__ import annotations

from collections.abc import Iterable

from lazyckpt.errors import LazyCkptError
from lazyckpt.formats import ENDINGS
from lazyckpt.sharding.members import missing_number
from lazyckpt.sharding.weight_map import parts_of
from lazyckpt.sources.paths import exists, file_name, find_listings, folder_of, join


def missing_parts(folder: str, files: Iterable[str]) -> list[str]:
    """The paths of parts that do not exist, of sets at any depth in a folder; and of listings that cannot be read.

    Args:
        folder: a path or URL.
        files: the checkpoints in it.

    Cost: reads the listings, and looks for each part.
    """
    known = set(files)
    missing: dict[str, None] = {}
    listings = find_listings(folder, ENDINGS)
    for listing in listings:
        try:
            parts = parts_of(listing)
        except LazyCkptError:
            missing[listing] = None
            continue
        missing.update(dict.fromkeys(part for part in parts if part not in known and not exists(part)))
    listed = set(map(folder_of, listings))
    by_folder: dict[str, list[str]] = {}
    for file in known:
        if folder_of(file) not in listed:  # a listing says itself what belongs to it
            by_folder.setdefault(folder_of(file), []).append(file_name(file))
    for path, names in sorted(by_folder.items()):
        if lacking := missing_number(names):
            missing[join(path, lacking)] = None
    return list(missing)
