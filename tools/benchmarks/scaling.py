"""Rows about many files: how many are indexed a second, by how many workers, of which kind."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import replace
from typing import NamedTuple

from benchmarks.figures import Row
from benchmarks.processes import Side
from benchmarks.run import RowFunction, Run

WORKERS = (1, 2, 4)
KINDS = ("processes", *(["dask"] if importlib.util.find_spec("distributed") else []))


class Tree(NamedTuple):
    """Files to index: how many, and how many parameters in each."""

    what: str
    count: int
    parameters: int


SMALL = Tree("small", 400, 100)
LARGE = Tree("large", 8, 100_000)


def indexing(run: Run, tree: Tree, kind: str, workers: int) -> Row:
    """Index all files of a tree by workers that are there already, beside one file after the other in one process."""
    files = run.files.tree(tree.what, tree.count, tree.parameters)
    mine = Side("lazyckpt", "tasks.index_many", {"paths": files, "kind": kind, "workers": workers}, memory=False)
    arguments = {"paths": files, "kind": "here", "workers": 1}
    peer = Side("one after the other", "tasks.index_many", arguments, memory=False)
    name = f"index {len(files):,} {tree.what} files, {kind} x {workers}"
    row = run.compare(name, mine, (peer,), turns=3)
    rate = f"{len(files) / row.mine.median:,.0f} files/s" if row.mine.median else "not measured"
    return replace(row, name=f"{name}: {rate}")


def _rows(trees: tuple[Tree, ...], workers: tuple[int, ...]) -> tuple[RowFunction, ...]:
    return tuple(
        functools.partial(indexing, tree=tree, kind=kind, workers=count)
        for tree in trees
        for kind in KINDS
        for count in workers
    )


SCALE = _rows((SMALL, LARGE), WORKERS)
QUICK_SCALE = _rows((SMALL,), (2,))  # each kind once: a cluster takes seconds to start
