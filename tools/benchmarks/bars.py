"""What rows should reach, and how files are named in them."""

from __future__ import annotations

from benchmarks.checkpoints import Made
from benchmarks.figures import Bar
from benchmarks.units import memory

MIB = 2**20
PEER = Bar("ratio", 1.1)  # where the work is the same
NEAR = Bar("limit", 1.3)  # warm opens, loads in order, full reads of GCM and SM4
WITHIN = Bar("limit", 2)  # everything else
MINDSPORE = Bar("ratio", 0.01)  # opens and encrypted subsets


def sizes(file: Made) -> str:
    """How many values of which size."""
    return f"{len(file.values):,} x {memory(file.values[0].length)}"
