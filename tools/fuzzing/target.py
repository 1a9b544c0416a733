"""What is fuzzed: sound files, what reads their mutants, and what several of these need."""

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
    """What is fuzzed.

    Attributes:
        seeds: makes the files whose mutants are read.
        read: reads a mutant; whatever it raises beyond `allowed` is a violation.
        allowed: the errors that say that a mutant was refused.
        changes: how mutants are made.
        apart: whether they are read in processes of their own.
    """

    seeds: Callable[[], list[Seed]]
    read: Callable[[bytes], object]
    allowed: tuple[type[Exception], ...] = (LazyCkptError,)
    changes: tuple[Change, ...] | None = None
    apart: bool = False


class Violation(Exception):
    """A reader contradicts itself."""


@functools.cache
def folder() -> Path:
    """A folder for this run, in memory if there is such a place. The cache folder is in it."""
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
