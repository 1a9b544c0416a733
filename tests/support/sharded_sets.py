"""Recorded distributed checkpoints, each with the original tensors."""

from __future__ import annotations

import json

from mindspore_results import GOLDEN

import lazyckpt

SETS = GOLDEN / "sharded"
CASES = {
    f"{file.parent.name}/{case['name']}": (file.parent, case)
    for file in sorted(SETS.glob("*/expected.json"))
    for case in json.loads(file.read_text(encoding="utf-8"))["cases"]
}


def opened(name, **options):
    """Open a recorded set without writing anything."""
    folder, case = CASES[name]
    if "strategy" in case:
        options = {"strategy": folder / case["strategy"], **options}
    return lazyckpt.open_sharded(folder / case["dir"], index="memory", **options)


def problems(name):
    """The names that cannot be assembled, each with the kind of problem."""
    return {one: kind for one, kind in CASES[name][1].get("ref_problems", []) if one != "open"}
