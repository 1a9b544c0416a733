"""How files are damaged: the same seed makes the same mutants."""

from __future__ import annotations

import random
from collections.abc import Iterator

import checkpoints

from fuzzing.target import LARGEST_SEED, Change, Seed

NUMBERS = (0, 1, 2, 127, 128, 2**14, 2**21, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)
BYTES = (0x00, 0x01, 0x04, 0x08, 0x0A, 0x12, 0x1A, 0x7F, 0x80, 0xFF)


def mutants(seeds: list[Seed], seed: int | str, changes: tuple[Change, ...] | None = None) -> Iterator[bytes]:
    """Damaged files without end."""
    pick = random.Random(seed)
    while True:
        yield damaged(pick.choice(seeds), pick, changes or CHANGES, seeds)


def damaged(seed: Seed, pick: random.Random, changes: tuple[Change, ...], seeds: list[Seed]) -> bytes:
    """A seed, changed in a few places."""
    data, hot = seed
    made = bytearray(data)
    for _ in range(pick.choice((1, 1, 1, 2, 3, 6))):
        change = pick.choice(changes)
        place = pick.choice(hot) if hot and pick.random() < 0.7 else pick.randrange(len(data) + 1)
        change(made, min(place, len(made)), pick, seeds)
    return bytes(made)


def _flip(data: bytearray, place: int, pick: random.Random, _: list[Seed]) -> None:
    data[place : place + 1] = bytes(byte ^ 1 << pick.randrange(8) for byte in data[place : place + 1])


def _set(data: bytearray, place: int, pick: random.Random, _: list[Seed]) -> None:
    data[place : place + 1] = bytes([pick.choice(BYTES)])


def _step(data: bytearray, place: int, pick: random.Random, _: list[Seed]) -> None:
    """A length that is off by a little."""
    data[place : place + 1] = bytes((byte + pick.choice((-2, -1, 1, 2))) % 256 for byte in data[place : place + 1])


def _number(data: bytearray, place: int, pick: random.Random, _: list[Seed]) -> None:
    """A length, or a dimension, of any size, in shortest form or not."""
    data[place : place + pick.choice((0, 1, 1, 2))] = checkpoints.varint(
        pick.choice(NUMBERS), pick.choice((0, 0, 0, 1))
    )


def _word(data: bytearray, place: int, pick: random.Random, _: list[Seed]) -> None:
    """A number of fixed size, as frames and records have them."""
    size = pick.choice((2, 4, 8))
    data[place : place + size] = (pick.choice(NUMBERS) % 256**size).to_bytes(size, "little")


def _cut(data: bytearray, place: int, _: random.Random, __: list[Seed]) -> None:
    del data[place:]


def _remove(data: bytearray, place: int, pick: random.Random, _: list[Seed]) -> None:
    del data[place : place + pick.choice((1, 2, 8, 64, 1000))]


def _repeat(data: bytearray, place: int, pick: random.Random, _: list[Seed]) -> None:
    run = data[place : place + pick.choice((1, 2, 8, 64, 1000))]
    data[place:place] = run * pick.choice((1, 1, 2, 20))


def _move(data: bytearray, place: int, pick: random.Random, _: list[Seed]) -> None:
    run = data[place : place + pick.choice((2, 8, 64, 1000))]
    del data[place : place + len(run)]
    target = pick.randrange(len(data) + 1)
    data[target:target] = run


def _splice(data: bytearray, place: int, pick: random.Random, seeds: list[Seed]) -> None:
    other = pick.choice(seeds).data
    start = pick.randrange(len(other))
    data[place:] = other[start : start + LARGEST_SEED]


CHANGES = (_flip, _flip, _set, _set, _step, _step, _number, _number, _word, _cut, _remove, _repeat, _move, _splice)
