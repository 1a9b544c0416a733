"""Recorded distributed checkpoints, each with the original tensors."""

from __future__ import annotations

import hashlib
import json

import numpy as np
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


def truth(name):
    """The tensors that were cut: name -> facts."""
    case = CASES[name][1]
    return {**(case.get("originals") or case["tensors"]), **case.get("original", {})}


def facts(array):
    """What is recorded of a tensor."""
    return list(array.shape), hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
