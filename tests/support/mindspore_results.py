"""MindSpore's recorded results for the golden files, and the same facts from lazyckpt."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

import lazyckpt
from lazyckpt.display import one_line

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = GOLDEN / "files"


def recorded(name):
    """The record of a golden file: the arguments to load it, and the outcome."""
    return json.loads((FILES / f"{name}.expected.json").read_text(encoding="utf-8"))


def allowed(listed="allowed.txt"):
    """The ids of calls for which lazyckpt differs intentionally, each with the reason."""
    lines = (GOLDEN / listed).read_text(encoding="utf-8").splitlines()
    return {call.strip(): reason.strip() for call, _, reason in (line.partition("#") for line in lines)}


def replayed(script, group, folder):
    """Run a replay of recorded calls. Returns the failed ids, the match of the summary line, and stderr."""
    replay = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(GOLDEN / script), "--only", group],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "CKPT_IMPL": "lazyckpt", "TMPDIR": str(folder)},
        check=False,
    )
    failed = {line.split()[1] for line in replay.stdout.splitlines() if line.startswith("FAIL ")}
    return failed, re.search(r"(\d+) passed, (\d+) failed", replay.stdout), replay.stderr


def arguments(record):
    """The keyword arguments of `load_checkpoint` in a record."""
    return {name: bytes.fromhex(value) if name == "dec_key" else value for name, value in record["load"].items()}


def facts_of(name, value):
    """The recorded facts about a value, computed with lazyckpt."""
    if isinstance(value, str):
        return {"name": name, "kind": "str", "value": value}
    if isinstance(value, list):
        return {"name": name, "kind": "map", "tensors": [_array_facts(array) for array in value]}
    array = value.asnumpy()
    return {
        "name": name,
        "kind": "tensor",
        "dtype": str(value.dtype),
        "shape": list(value.shape),
        "nbytes": value.nbytes,
        "sha256": _digest(array),
        "repr": repr(value),
        "array": [list(array.shape), array.nbytes],
    }


def facts_recorded(entry):
    """The same facts, taken from a record."""
    if entry["kind"] == "map":
        tensors = [{key: tensor[key] for key in ("dtype", "shape", "sha256")} for tensor in entry["tensors"]]
        return {"name": entry["name"], "kind": "map", "tensors": tensors}
    if entry["kind"] == "str":
        return entry
    facts = {key: entry[key] for key in ("name", "kind", "dtype", "shape", "nbytes", "sha256", "repr")}
    # In safetensors files, MindSpore numbers its Parameters, while lazyckpt uses their names.
    facts["repr"] = facts["repr"].replace("=Parameter#N", f"={entry['name'].strip()}")
    facts["repr"] = one_line(facts["repr"])  # MindSpore prints control characters as they are
    return facts | {"array": [entry["shape"], entry["nbytes"]]}


def read_everything(path, **options):
    """Load a checkpoint, and compute the facts of every value."""
    with lazyckpt.load_checkpoint(str(path), **options) as checkpoint:
        return [facts_of(name, value) for name, value in checkpoint.items()]


def _array_facts(array):
    return {"dtype": array.dtype.name, "shape": list(array.shape), "sha256": _digest(array)}


def _digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
