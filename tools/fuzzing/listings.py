"""Listings of sets (`<name>.index.json`), beside small sound parts: no name leads out of the folder.

Files outside have the parts' names and other values. Every file opened while a mutant is read is recorded.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import checkpoints as made
import safetensors_files

from fuzzing.mutation import CHANGES
from fuzzing.target import Change, Seed, Target, Violation, folder, same
from fuzzing.watching import listening, outside
from lazyckpt.errors import CorruptFile
from lazyckpt.loading import load_checkpoint
from lazyckpt.sharding.opening import open_sharded
from lazyckpt.sharding.weight_map import files_of

TENSORS = {f"layer{number}.weight": made.counting((number + 1, 4)) for number in range(6)} | {"é": made.counting((2,))}
NAMES = list(TENSORS)
PARTS = (NAMES[:4], NAMES[4:])
FORMS = ("ckpt", "safetensors")
FILES = tuple(f"net-{number}-of-2.{form}" for form in FORMS for number in (1, 2))
HOSTILE = (
    *(
        f"{way}{file}"
        for way in ("../", "sub/", "./", "..\\", "link/", "/", "file://", "memory://", "memory::", "file::")
        for file in FILES
    ),
    *("", ".", "..", "/", "~", "/dev/null", "/etc/passwd", "sub", "pipe.ckpt", "\\u0000", "\\ud800", "net\\n.ckpt"),
    *("net.ckpt.index.json", "net-1-of-2.ckpt.lmdb", "é.safetensors", "n" * 300, *FILES),
)


def listing_seeds() -> list[Seed]:
    """Listings of both formats, with and without metadata. All of a listing matters."""
    return [
        Seed(data, list(range(len(data))))
        for form in FORMS
        for more in ({}, {"metadata": {"total_size": 336, "é": [1, None]}})
        for indent in (None, 1)
        for data in [json.dumps({**more, "weight_map": _homes(form)}, indent=indent, ensure_ascii=False).encode()]
    ]


def _homes(form: str) -> dict[str, str]:
    return {name: f"net-{number}-of-2.{form}" for number, names in enumerate(PARTS, 1) for name in names}


def read_listing(data: bytes) -> None:
    """Open the set that a mutant lists, cold or warm, and read every value."""
    place = _place()
    form = "safetensors" if data.count(b"safetensors") > data.count(b"ckpt") else "ckpt"
    path = place / f"net.{form}.index.json"
    path.write_bytes(data)
    with listening() as heard:
        try:
            for part in files_of(str(path)):
                if os.path.dirname(os.path.abspath(part)) != str(place):
                    raise Violation(f"a part stands elsewhere: {part!r}")
            _check(dict(_readable(str(path))))
            with load_checkpoint(str(path), format=form) as checkpoint:
                _check(checkpoint.load())
        finally:
            # Modules that are imported on first need are opened, too.
            found = outside(heard.opened, place, folder() / "cache", "/proc", sys.base_prefix, *sys.path)
            strays = [path for path in found if not os.path.isdir(path)]  # a writer opens the folders above its own
            if strays:
                raise Violation(f"{strays[0]!r} was opened, outside the folder")


def _readable(path: str) -> Iterator[tuple[str, Any]]:
    """The values of a set that can be read one by one, whatever its listing says of others."""
    with open_sharded(path) as checkpoint:
        for name in checkpoint:
            with contextlib.suppress(CorruptFile):
                yield name, checkpoint[name].asnumpy()


def _check(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if name not in TENSORS or not same(value, TENSORS[name]):
            raise Violation(f"{name!r} is not the value of its part")


@functools.cache
def _place() -> Path:
    """A folder with the parts of both formats, a folder, a pipe and a link out of it, in one with other parts."""
    around = folder() / "listings"
    place = around / "set"
    (place / "sub").mkdir(parents=True)
    os.mkfifo(place / "pipe.ckpt")
    os.symlink("..", place / "link")
    for form in FORMS:
        for number, names in enumerate(PARTS, 1):
            arrays = {name: TENSORS[name] for name in names}
            file = f"net-{number}-of-2.{form}"
            (place / file).write_bytes(_part(form, arrays))
            others = {name: array + 1 for name, array in arrays.items()}
            for elsewhere in (around, place / "sub"):
                (elsewhere / file).write_bytes(_part(form, others))
    shutil.copy(place / FILES[0], place / "é.safetensors")
    return place


def _part(form: str, arrays: dict[str, object]) -> bytes:
    return made.checkpoint(arrays) if form == "ckpt" else safetensors_files.file_of(arrays)


def _renamed(data: bytearray, place: int, pick: random.Random, _: list[Seed]) -> None:
    """Another name, or one more in front, where a string begins."""
    start = data.find(b'"', place)
    end = data.find(b'"', start + 1)
    if 0 <= start < end:
        data[start + 1 : end if pick.random() < 0.8 else start + 1] = pick.choice(HOSTILE).encode("utf-8")


CHANGE: tuple[Change, ...] = (*CHANGES, *(_renamed,) * 8)
TARGETS = {"listings": Target(listing_seeds, read_listing, changes=CHANGE, memory=60)}
