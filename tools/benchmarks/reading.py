"""Rows about reading values, warm and cold."""

from __future__ import annotations

from functools import partial

from benchmarks.bars import MIB, NEAR, PEER, WITHIN, sizes
from benchmarks.figures import Bar, Row
from benchmarks.peers import OPENING
from benchmarks.processes import Side
from benchmarks.run import Run, limit


def terabyte_row(run: Run) -> Row:
    """A small piece of a large value of a huge file."""
    file = run.files.terabyte
    name = file.names[len(file.values) // 2]
    mine = Side("lazyckpt", "tasks.one_row", {"path": file.path, "name": name, "row": 2_500})
    return run.compare(f"one row of one of {sizes(file)}", mine, turns=11, calls=10, bars=(Bar("extra", 100 * MIB),))


def one(run: Run, how: str) -> Row:
    """One value: looked at in place and added up, or copied."""
    file = run.files.large
    value = file.values[29]
    mine, peers = run.opened("value", file, OPENING, name=value.name, how=how)
    said, label = {"view": ("view + sum", "numpy sum"), "copy": ("copy", "memcpy")}[how]
    bare = limit(label, "raw_value", path=file.path, offset=value.offset, shape=value.shape, how=how)
    bars = (PEER, WITHIN)
    return run.compare(f"one of {sizes(file)}, {said}", mine, peers, bare, turns=11, calls=3, bars=bars)


def everything(run: Run) -> Row:
    """All values in file order, each in memory of its own."""
    file = run.files.large
    mine, peers = run.opened("load", file, OPENING)
    mine_too = run.mindspore("tasks.mindspore_load", path=file.path)
    bare = limit("memcpy", "memcpy", path=file.path, values=file.places)
    return run.compare(f"all of {sizes(file)}, load()", mine, peers + mine_too, bare, turns=5, bars=(PEER, NEAR))


def small(run: Run) -> Row:
    """Many small values: what counts is the cost of each."""
    file = run.files.hundred_thousand
    mine, peers = run.opened("load", file, ("safetensors", "safetensors-torch", "torch"))
    bare = limit("one memcpy + arrays", "one_memcpy", path=file.path, values=file.places)
    name = f"all of {len(file.values):,} small values, load()"
    return run.compare(name, mine, peers, bare, turns=5, bars=(PEER, WITHIN))


def cold_one(run: Run) -> Row:
    """One value from the disk, the index too."""
    file = run.files.large
    value = file.values[41]
    peers = ("safetensors", "safetensors-torch", "torch", "numpy", "h5py", "zarr")
    mine, beside = run.opened("value", file, peers, name=value.name, how="copy", cold=True)
    bare = limit("pread", "read_range", (), path=file.path, offset=value.offset, length=value.length)
    name = f"one of {sizes(file)}, copy, cold"
    return run.compare(name, mine, beside, bare, turns=5, bars=(PEER, WITHIN), alone=False)


def cold_everything(run: Run) -> Row:
    """All values from the disk."""
    file = run.files.large
    peers = ("safetensors", "safetensors-torch", "torch", "numpy", "h5py")
    mine, beside = run.opened("load", file, peers, cold=True)
    bare = limit("read(2), kept nowhere", "read_through", (), path=file.path)
    name = f"all of {sizes(file)}, load(), cold"
    return run.compare(name, mine, beside, bare, turns=3, bars=(PEER, WITHIN), alone=False)


READ = (terabyte_row, partial(one, how="view"), partial(one, how="copy"), everything, small, cold_one, cold_everything)
