"""Rows about indexing: what the first open of a file takes."""

from __future__ import annotations

from benchmarks.bars import MIB, WITHIN, sizes
from benchmarks.figures import Bar, Row
from benchmarks.processes import Side
from benchmarks.run import Run, limit


def terabyte(run: Run) -> Row:
    """The walk over headers that lie far apart."""
    file = run.files.terabyte
    mine = Side("lazyckpt", "tasks.first_index", {"path": file.path})
    return run.compare(f"first index, {sizes(file)}", mine, turns=5, fresh=True, bars=(Bar("seconds", 1.0),))


def terabyte_cold(run: Run) -> Row:
    """The same from the disk: a page for each header, and nothing around it."""
    file = run.files.terabyte
    mine = Side("lazyckpt", "tasks.first_index", {"path": file.path, "cold": True})
    return run.compare(f"first index, {sizes(file)}, cold", mine, turns=3, fresh=True)


def many(run: Run) -> Row:
    """The walk over many headers; the limit keeps nothing in a file."""
    file = run.files.many
    mine = Side("lazyckpt", "tasks.first_index", {"path": file.path})
    bars = (Bar("seconds", 4.0), Bar("peak", 400 * MIB), WITHIN)
    walk = limit("bare header walk", "header_walk", (), path=file.path)
    name = f"first index, {len(file.values):,} parameters"
    return run.compare(name, mine, (), walk, turns=3, fresh=True, bars=bars)


def holes(run: Run) -> Row:
    """The walk over a few headers, from page cache."""
    file = run.files.holes
    mine = Side("lazyckpt", "tasks.first_index", {"path": file.path})
    return run.compare(f"first index, {sizes(file)}", mine, turns=11, calls=3, bars=(Bar("seconds", 20e-3),))


def lenet(run: Run) -> Row:
    """The first load of a small file: the walk is nothing, the sidecar all."""
    path = run.files.lenet.path
    mine, peers = (
        Side("lazyckpt", "tasks.first_load", {"path": path}),
        run.mindspore("tasks.mindspore_names", path=path),
    )
    return run.compare("first load, LeNet", mine, peers, turns=11, calls=5, bars=(Bar("ratio", 1.5),))


def lenet_all(run: Run) -> Row:
    """The same with every value, which MindSpore's load always reads."""
    path = run.files.lenet.path
    mine, peers = (
        Side("lazyckpt", "tasks.first_load_all", {"path": path}),
        run.mindspore("tasks.mindspore_load", path=path),
    )
    return run.compare("first load + every value, LeNet", mine, peers, turns=11, calls=5, bars=(Bar("ratio", 1.1),))


INDEX = (terabyte, terabyte_cold, many, holes, lenet, lenet_all)
