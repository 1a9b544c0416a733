"""Folders of ranks and of runs whose values say which file they come from."""

from __future__ import annotations

import json

import numpy as np
from checkpoints import checkpoint


def strategy_of(folder, ranks, name="w"):
    """The path of a strategy by which the first axis of a parameter is cut among ranks."""
    layout = {"dev_matrix": [ranks], "tensor_map": [0], "field": 0, "opt_weight_shard_step": 0}
    path = folder / "strategy.json"
    path.write_text(json.dumps({"parallel_layout_item": {name: {**layout, "opt_weight_shard_size": 0}}}))
    return path


def write(path, value, state="whole"):
    """Write a checkpoint whose `w` is of this value, as it is, cut, or empty."""
    data = checkpoint({"w": np.full(4, value, np.float32), "own": np.full(1, value, np.float32)})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes({"whole": data, "cut": data[: len(data) // 2], "empty": b""}[state])
    return path


def rank_folder(folder, files):
    """Write `{(rank, name): value}`; `value` may be (value, state)."""
    for (rank, name), value in files.items():
        write(folder / f"rank_{rank}" / name, *(value if isinstance(value, tuple) else (value,)))
    return folder
