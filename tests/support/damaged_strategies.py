"""Damaged strategies, and their outcome in the reader, which is also run in processes."""

from __future__ import annotations

import random

from mindspore_results import GOLDEN

from lazyckpt.errors import LazyCkptError
from lazyckpt.formats.proto.reading import strategy_pieces
from lazyckpt.formats.proto.strategy_pb2 import ParallelStrategyMap


def merged(kind, pieces):
    """The pieces, merged into one message."""
    whole = kind()
    for piece in pieces:
        whole.MergeFrom(piece)
    return whole


def mutants(count=400):
    """Damaged strategies, the same in every run."""
    chance = random.Random(5)
    sound = sorted(GOLDEN.glob("sharded/**/*strategy*.ckpt"), key=lambda file: (file.stat().st_size, file))[-12:-2]
    seeds = [file.read_bytes() for file in sound]
    interesting = [0, 1, 2, 8, 10, 18, 26, 34, 40, 127, 128, 254, 255]
    for _ in range(count):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data))
            data[at : at + chance.randint(0, 2)] = bytes(chance.choices(interesting, k=chance.randint(0, 2)))
        yield bytes(data)


def outcome(data):
    """The parsed message as hex without unknown fields, or "refused"."""
    try:
        message = merged(ParallelStrategyMap, strategy_pieces(memoryview(data)))
    except LazyCkptError:
        return "refused"
    message.DiscardUnknownFields()
    return message.SerializeToString(deterministic=True).hex()
