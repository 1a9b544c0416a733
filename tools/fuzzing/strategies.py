"""Strategy files, which say how ranks cut their parameters, and group info files."""

from __future__ import annotations

import contextlib
from pathlib import Path

from fuzzing.target import LARGEST_SEED, SHARDED, Seed, Target, Violation, folder
from lazyckpt.sharding.group_info import read_group_info
from lazyckpt.sharding.layout import ImpossibleLayout, devices_of, partition_of
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
                partition = partition_of(layout)
                for local in range(min(devices_of(layout), 64)):
                    if local not in partition.holders_of(partition.part_of(local)):
                        raise Violation("a rank does not hold the part that it should")


def group_info_seeds() -> list[Seed]:
    """The recorded group infos."""
    return [
        Seed(data, list(range(len(data)))) for data in map(Path.read_bytes, sorted(SHARDED.rglob("group_info*.pb")))
    ]


def read_groups(data: bytes) -> None:
    """Read a mutant."""
    path = folder() / "group_info.pb"
    path.write_bytes(data)
    read_group_info(str(path))


TARGETS = {
    "strategies": Target(strategy_seeds, read_layouts, memory=60),
    "group_infos": Target(group_info_seeds, read_groups, memory=60),
}
