"""Rows about parts of a big value, of a file that is open. All give an array of its own: views are copied."""

from __future__ import annotations

from functools import partial

from benchmarks.bars import PEER, WITHIN
from benchmarks.figures import Row
from benchmarks.run import Run, limit
from benchmarks.units import memory

_BASIC = ("safetensors", "safetensors-torch", "torch", "numpy", "h5py", "zarr")
_STEPS = ("torch", "numpy", "h5py", "zarr")  # safetensors slices have no steps


def part(run: Run, said: str, key: str, small: str, peers: tuple[str, ...]) -> Row:
    """A part of a value of 256 MiB."""
    file = run.files.big
    value, where = file.values[0], key if value_is_large(run) else small
    mine, beside = run.opened("part", file, peers, name=value.name, where=where)
    bare = limit("numpy on a map", "raw_value", path=file.path, offset=value.offset, shape=value.shape, where=where)
    name = f"{said} of {memory(value.length)}: [{where}]"
    return run.compare(name, mine, beside, bare, turns=9, calls=25, bars=(PEER, WITHIN), alone=False)


def value_is_large(run: Run) -> bool:
    """Whether the files have full size."""
    return run.files.big.values[0].shape[0] > 1_000


SLICE = (
    partial(part, said="one row", key="5000", small="50", peers=_BASIC),
    partial(part, said="100 rows", key="1000:1100", small="100:200", peers=_BASIC),
    partial(part, said="a block", key="1000:1100, 2000:2300", small="100:200, 200:230", peers=_BASIC),
    partial(part, said="every 64th row", key="::64", small="::8", peers=_STEPS),
    partial(part, said="rows and columns with steps", key="::64, ::8", small="::8, ::2", peers=_STEPS),
    partial(part, said="one column", key=":, 17", small=":, 17", peers=_BASIC),
)
