"""Sidecars: damaged or forged, they never give a checkpoint a value that is not in its file."""

from __future__ import annotations

import contextlib
import functools
import os
import random
from pathlib import Path

import checkpoints as made
import encryption

from fuzzing.encrypted import PLAIN
from fuzzing.mutation import CHANGES
from fuzzing.target import Seed, Target, Violation, folder, same
from lazyckpt.checkpoint import Checkpoint
from lazyckpt.errors import LazyCkptError, MissingName
from lazyckpt.index.lmdb_pages import add_checksums
from lazyckpt.loading import load_checkpoint

DEEP = {f"layer{place}.weight": made.counting((place % 5, 3)) for place in range(80)} | {
    "n" * 1000: made.counting((3,))
}
SLICED = made.sliced_value("sliced", made.counting((40, 40)), [40] * 160)  # its record has overflow pages
CHECKPOINTS = {  # a checkpoint, and what it is opened with
    "mixed": (made.checkpoint(made.MIXED), {}),
    "deep": (made.checkpoint(DEEP) + SLICED, {}),
    "sealed": (encryption.encrypted(PLAIN, block=1000), {"dec_key": encryption.KEY}),
}
PAGE = 4096
_TAIL = 28  # bytes behind the summary
_LONGEST = 200  # bytes of a summary


def sidecar_seeds() -> list[Seed]:
    """The sidecars of three checkpoints. All that is not zero in them matters."""
    return [Seed(data, [place for place, byte in enumerate(data) if byte]) for data in map(_sidecar_of, CHECKPOINTS)]


@functools.cache
def _sidecar_of(name: str) -> bytes:
    path, _ = _opened_once(name)
    load_checkpoint(str(path), **CHECKPOINTS[name][1]).close()
    return _beside(path).read_bytes()


@functools.cache
def _opened_once(name: str) -> tuple[Path, dict[str, object]]:
    """A checkpoint in a folder of its own, and the values it has, as read without an index."""
    place = folder() / name
    place.mkdir()
    path = place / "net.ckpt"
    path.write_bytes(CHECKPOINTS[name][0])
    os.utime(path, ns=(10**18, 10**18))  # so that a mutant that was kept is still of this file
    with load_checkpoint(str(path), index="memory", **CHECKPOINTS[name][1]) as checkpoint:
        return path, checkpoint.load()


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".lmdb")


def read_beside(data: bytes) -> None:
    """Open a checkpoint with this sidecar beside it: as it is, and with checksums that fit, as a forger would."""
    name = max(CHECKPOINTS, key=lambda name: _likeness(data, _sidecar_of(name)))
    refused = None
    for sidecar, believed in ((data, False), (_summed(data), True)):
        try:
            _read_with(name, sidecar, believed=believed)
        except LazyCkptError as error:
            refused = error
    if refused is not None:
        raise refused


def _likeness(one: bytes, other: bytes) -> int:
    """How many pieces of two sidecars are the same, to find the checkpoint that a mutant is meant for."""
    return sum(one[at : at + 64] == other[at : at + 64] for at in range(0, len(one), 64))


def _read_with(name: str, sidecar: bytes, *, believed: bool) -> None:
    path, truth = _opened_once(name)
    _beside(path).write_bytes(sidecar)
    with load_checkpoint(str(path), **CHECKPOINTS[name][1]) as checkpoint:
        names = list(checkpoint)
        if not believed and (names != list(truth) or len(checkpoint) != len(truth)):
            raise Violation("damage is believed: the names are not those of the file")
        if believed:
            with contextlib.suppress(MissingName):  # a forged index need not have such a name
                checkpoint.select(["layer1", "layer*.bias"]).tree()
            checkpoint.summary()
        fault: Exception | None = None
        keys = list({*names[:: len(names) // 6 + 1], *list(truth)[:: len(truth) // 6 + 1]})
        try:
            found = [checkpoint.load(keys)]
        except (LazyCkptError, KeyError) as error:
            found = [value for key in keys for value in _loaded(checkpoint, key)]
            fault = error
        if not believed and isinstance(fault, KeyError):
            raise Violation(f"damage is believed: {fault} is not there")
        for values in found:
            for key, value in values.items():
                if key not in truth or not same(value, truth[key]):
                    raise Violation(f"{key!r} is not the value of the file")
        if isinstance(fault, LazyCkptError) and not isinstance(fault, MissingName):
            raise fault


def _loaded(checkpoint: Checkpoint, key: str) -> list[dict[str, object]]:
    try:
        return [checkpoint.load([key])]
    except (LazyCkptError, KeyError):
        return []


def _summed(data: bytes) -> bytes:
    """The pages of a mutant, as many as it says there are, with its summary and checksums that fit."""
    length = min(int.from_bytes(data[-16:-12], "little"), _LONGEST)
    path = folder() / "forged"
    count = min(len(data) // PAGE, max(int.from_bytes(data[at : at + 8], "little") for at in (136, PAGE + 136)) + 1)
    path.write_bytes(data)
    add_checksums(str(path), PAGE, count, data[-_TAIL - length : -_TAIL])
    return path.read_bytes()


def _exchange_pages(data: bytearray, place: int, pick: random.Random, _: list[Seed]) -> None:
    one, other = (PAGE * page for page in (place // PAGE, pick.randrange(len(data) // PAGE + 1)))
    data[one : one + PAGE], data[other : other + PAGE] = data[other : other + PAGE], data[one : one + PAGE]


def _foreign_page(data: bytearray, place: int, pick: random.Random, seeds: list[Seed]) -> None:
    """A page of another sidecar, or an older one."""
    other = pick.choice(seeds).data
    start = PAGE * pick.randrange(len(other) // PAGE)
    data[place // PAGE * PAGE : place // PAGE * PAGE + PAGE] = other[start : start + PAGE]


def _clear_page(data: bytearray, place: int, _: random.Random, __: list[Seed]) -> None:
    """A page of zeros, as a disk gives that lost it."""
    start = place // PAGE * PAGE
    data[start : start + PAGE] = bytes(len(data[start : start + PAGE]))


TARGETS = {
    "sidecars": Target(
        sidecar_seeds,
        read_beside,
        changes=(*CHANGES, _exchange_pages, _foreign_page, _foreign_page, _clear_page),
        apart=True,
        memory=60,
    )
}
