"""Checkpoints opened to be looked at: with every entry, also those that cannot be loaded.

`load_checkpoint` stops at a parameter that it could not give; who only looks wants to see the others, and that one too.
"""

from __future__ import annotations

import os

from lazyckpt.checkpoint import Checkpoint
from lazyckpt.errors import MissingFile
from lazyckpt.index.build import AUTO, Wishes
from lazyckpt.index.selection import AllNames
from lazyckpt.loading import format_of_name
from lazyckpt.sharding.weight_map import is_listing, open_path
from lazyckpt.sources import CACHE_BYTES
from lazyckpt.sources.encryption.keys import Key, secret_or_late
from lazyckpt.sources.paths import exists, resolved


def open_all(
    path: str | os.PathLike[str],
    dec_key: Key | None = None,
    dec_mode: str = "AES-GCM",
    *,
    index: str = AUTO,
    block_cache: int = CACHE_BYTES,
) -> Checkpoint:
    """Open a file, whatever it is called and whatever its parameters are like, under the names that stand in it.

    Args:
        path: a `.ckpt` or safetensors file, or the listing of a set.
        dec_key: the key of an encrypted one, or a `KeyReference`.
        dec_mode: its mode.
        index: as for `load_checkpoint`.
        block_cache: bytes of decrypted blocks of an AES-GCM file to keep in memory.

    Returns:
        A mapping whose `entry` knows refused parameters, too. Their values cannot be had.

    Raises:
        ValueError: of the file, as `load_checkpoint` does.

    Cost: as `load_checkpoint`.
    """
    try:
        key = secret_or_late(dec_key)
    finally:
        dec_key = None  # so that no traceback's variables show it
    place = os.fspath(path)
    if is_listing(place):
        if not exists(place):
            raise MissingFile(f"{place} does not exist, please check the name and the folder")
        wishes = Wishes(cache=block_cache, format=format_of_name(place))
    else:
        place = resolved(place)
        wishes = Wishes(cache=block_cache)
    opened = open_path(place, key, dec_mode, index, wishes)
    return Checkpoint(opened.source, opened.entries, opened.payloads(), AllNames(opened.entries))
