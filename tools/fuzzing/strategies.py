"""Strategy files: how ranks cut their parameters."""

from __future__ import annotations

import contextlib

from fuzzing.target import LARGEST_SEED, SHARDED, Seed, Target, Violation, folder
from lazyckpt.sharding.layout import ImpossibleLayout, partition_of
from lazyckpt.sharding.strategy import read_strategy


def strategy_seeds() -> list[Seed]:
    """The recorded strategies, protobuf and JSON."""
    files = [*SHARDED.rglob("*strategy*.ckpt"), *SHARDED.rglob("*strategy*.json"), *SHARDED.rglob("merged.*")]
    seeds = [path.read_bytes() for path in sorted(files) if path.stat().st_size <= LARGEST_SEED]
    return [Seed(data, list(range(len(data)))) for data in dict.fromkeys(seeds)]


def read_layouts(data: bytes) -> None:
    """Read a mutant, and cut as each of its layouts says."""
    path = folder() / ("strategy.json" if data[:1] == b"{" else "strategy.ckpt")
    path.write_bytes(data)
    for layouts in read_strategy([str(path)]).values():
        for layout in layouts.values():
            with contextlib.suppress(ImpossibleLayout):
                cut = partition_of(layout)
                if sorted(rank for ranks in cut.holders().values() for rank in ranks) != list(range(len(cut.places))):
                    raise Violation("a rank holds no part, or two")


TARGETS = {"strategies": Target(strategy_seeds, read_layouts)}
