"""A fuzzing target: sound files, a reader for their mutants, and shared helpers."""

from __future__ import annotations

import atexit
import functools
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fuzzing import TESTS
from lazyckpt.errors import LazyCkptError

GOLDEN = TESTS / "golden" / "files"
SHARDED = TESTS / "golden" / "sharded"
LARGEST_SEED = 2**16
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # so that no disk slows a run
PLACE = "LAZYCKPT_FUZZ_FOLDER"  # where the folder is, if the process that started this one removes it


class Seed(NamedTuple):
    """A sound file, and the places where a change matters most."""

    data: bytes
    hot: list[int]


Change = Callable[[bytearray, int, random.Random, list[Seed]], None]


class Target(NamedTuple):
    """A fuzzing target.

    Attributes:
        seeds: makes the files to mutate.
        read: reads a mutant; any exception beyond `allowed` is a violation.
        allowed: the errors that refuse a mutant.
        changes: the mutations.
        apart: whether mutants are read in separate processes.
        memory: bytes of memory that a mutant may take for each of its own, besides a constant; None for any number.
    """

    seeds: Callable[[], list[Seed]]
    read: Callable[[bytes], object]
    allowed: tuple[type[Exception], ...] = (LazyCkptError,)
    changes: tuple[Change, ...] | None = None
    apart: bool = False
    memory: float | None = None


class Violation(Exception):
    """A reader contradicts itself."""


@functools.cache
def folder() -> Path:
    """A folder for this run, in memory if possible. It contains the cache folder."""
    made = tempfile.TemporaryDirectory(prefix="lazyckpt-fuzz-", dir=os.environ.get(PLACE, MEMORY))
    atexit.register(made.cleanup)
    os.environ["LAZYCKPT_CACHE"] = os.path.join(made.name, "cache")
    return Path(made.name)


def same(one: object, other: object) -> bool:
    """Whether two values are the same, to the bit."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    return one == other
