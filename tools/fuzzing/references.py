"""References: read as zarr reads them, they lead to the values of the checkpoint, each under a path of its own."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import checkpoints as made
from zarr_reading import arrays

from fuzzing.checkpoints import checkpoint_seeds
from fuzzing.target import Seed, Target, Violation, folder
from lazyckpt.checkpoint import Checkpoint
from lazyckpt.errors import ArgumentValueError
from lazyckpt.loading import open_all
from lazyckpt.model.entry import MAP, TENSOR
from lazyckpt.references.names import path_of

LARGEST = 8192  # bytes of a seed: every chunk is read by itself
WAYS = ({}, {"chunk_size": 16, "inline": 8}, {"nested": True})
NAMES = ("a.b", "a", "", ".zarray", "../x", "a/b", "{{u}}", "%2F", "~41", "é")


def reference_seeds() -> list[Seed]:
    """The small checkpoints, and one of names that mean something to stores, file systems, URLs or templates."""
    named = made.checkpoint({name: made.counting((3,)) + place for place, name in enumerate(NAMES)})
    small = [seed for seed in checkpoint_seeds() if len(seed.data) <= LARGEST]
    return [*small, Seed(named, list(range(len(named))))]


def read_references(data: bytes) -> None:
    """Write references of a mutant: whole, in chunks, in groups."""
    path = folder() / "references.ckpt"
    path.write_bytes(data)
    with open_all(str(path)) as checkpoint:
        for how in WAYS:
            with contextlib.ExitStack() as stack:
                if "nested" in how:  # not every name can be a group's
                    stack.enter_context(contextlib.suppress(ArgumentValueError))
                _compare(data, checkpoint, checkpoint.references(**how).to_dict(), nested="nested" in how)


def _compare(data: bytes, checkpoint: Checkpoint, references: dict[str, Any], *, nested: bool) -> None:
    refs = references["refs"]
    nodes = {key.removesuffix("/.zarray"): json.loads(refs[key]) for key in refs if key.endswith("/.zarray")}
    # Texts of impossible characters stop numpy, and of nothing there may be any number of chunks.
    unread = {path for path, node in nodes.items() if 0 in node["shape"] or "U" in node["dtype"]}
    full = {key: value for key, value in refs.items() if key.removesuffix("/.zarray") not in unread}
    found = arrays({**references, "refs": full})
    left_out = json.loads(refs.get(".zattrs", "{}")).get("lazyckpt_left_out", {})
    paths = {name: path_of(name, nested=nested) for name in checkpoint if name not in left_out}
    maps = {path for name, path in paths.items() if checkpoint.entry(name).kind == MAP}  # several arrays each
    if {path.rpartition("~")[0] if path.rpartition("~")[0] in maps else path for path in nodes} != set(paths.values()):
        raise Violation("names and paths do not match")
    for name, path in paths.items():
        entry = checkpoint.entry(name)
        if entry.kind != TENSOR:
            continue
        if list(entry.shape) != nodes[path]["shape"]:
            raise Violation(f"{name!r} has another shape")
        content = b"".join(data[at : at + length] for at, length in entry.extents)
        if not content and path not in unread:  # a number that was saved without one
            content = checkpoint[name].asnumpy().tobytes()
        if path not in unread and _plain(found[path].tobytes(), nodes[path]) != _plain(content, nodes[path]):
            raise Violation(f"{name!r} has another value")


def _plain(content: bytes, node: dict[str, Any]) -> bytes:
    """The bytes of an array; any but zero are true, and numpy changes them as it likes."""
    return bytes(map(bool, content)) if node["dtype"] == "|b1" else content


TARGETS = {"references": Target(reference_seeds, read_references)}
