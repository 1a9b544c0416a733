"""Slices: random keys of random values in random layouts, compared with numpy.

A mutant is not a file: its bytes seed the random numbers that choose the value, its layout and the keys.
"""

from __future__ import annotations

import math
import random

from index_keys import any_key, outcome
from value_kinds import KINDS, made, random_limits

from fuzzing.target import Seed, Target, Violation
from lazyckpt.errors import LazyCkptError

KEYS = 25  # of each value
_SIZES = (0, 1, 2, 3, 4, 5, 7, 13, 40)
_MOST = 4000  # elements
_FEW = 200  # elements of a value that is read in pieces of a few bytes


def slice_seeds() -> list[Seed]:
    """One for each kind of value; the mutations make the rest."""
    return [Seed(bytes([number]) + bytes(16), list(range(1, 17))) for number in range(len(KINDS))]


def read_slices(data: bytes) -> None:
    """Take `KEYS` slices of a value, each as numpy takes it of the array."""
    choose = random.Random(data)
    name = list(KINDS)[(data[0] if data else 0) % len(KINDS)]
    in_small_pieces = choose.random() < 0.7
    most = _FEW if in_small_pieces else _MOST
    shape: list[int] = []
    for _ in range(choose.randrange(5)):
        size = choose.choice(_SIZES)
        shape.append(size if size * math.prod(filter(None, shape)) <= most else 1)
    array, param = made(name, choose, tuple(shape))
    if in_small_pieces:
        with random_limits(choose):
            _compare(name, choose, array, param)
    else:
        _compare(name, choose, array, param)


def _compare(name: str, choose: random.Random, array, param) -> None:
    for _ in range(KEYS):
        key = any_key(choose, array.shape)
        found, expected = outcome(param, key), outcome(array, key)
        if found != expected:
            raise Violation(f"{name}, {array.dtype} of {array.shape}, key {key!r}: {found} in place of {expected}")


def _seeded(data: bytearray, _: int, pick: random.Random, __: list[Seed]) -> None:
    """Other random numbers: the mutant is a new value with new keys."""
    data[1:] = pick.randbytes(16)


TARGETS = {"slices": Target(slice_seeds, read_slices, (LazyCkptError,), (_seeded,))}
