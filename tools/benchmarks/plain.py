"""Rows about plain files: opening, indexing, reading."""

from __future__ import annotations

import importlib.util
import sys

from benchmarks.checkpoints import MIB, Made
from benchmarks.measure import Side, compare
from benchmarks.run import Run
from benchmarks.table import Bar, Row, memory


def terabyte_open(run: Run) -> Row:
    """Opening costs the same for any number of parameters and any size of values."""
    file = run.files.terabyte
    mine = Side("lazyckpt", "open_warm", {"path": file.path})
    bars = (Bar("seconds", 5e-3),)
    return compare(f"warm open, {_sizes(file)}", mine, repeat=run.turns(11), calls=20, bars=bars)


def many_open(run: Run) -> Row:
    """Neither does it matter for looking a name up."""
    mine, peer = (
        Side("lazyckpt", "open_and_look_up", {"path": file.path, "names": [v.name for v in file.values[::97]]})
        for file in (run.files.many, run.files.thousand)
    )
    name = f"warm open + look-up, {len(run.files.many.values):,} parameters"
    bars = (Bar("seconds", 1e-3), Bar("ratio", 2))
    return compare(name, mine, peer.called("itself on 1,000"), repeat=run.turns(15), calls=20, bars=bars)


def lenet_open(run: Run) -> Row:
    """A small file must not be slower than with MindSpore."""
    path = run.files.lenet.path
    mine = Side("lazyckpt", "open_warm", {"path": path})
    bars = (Bar("seconds", 0.6e-3),)
    return compare("warm load, LeNet", mine, run.mindspore_side(path=path), repeat=run.turns(11), calls=10, bars=bars)


def terabyte_index(run: Run) -> Row:
    """The walk over headers that lie far apart."""
    file = run.files.terabyte
    mine = Side("lazyckpt", "first_index", {"path": file.path})
    bars = (Bar("seconds", 1.0),)
    return compare(f"first index, {_sizes(file)}", mine, repeat=run.turns(5), fresh=True, bars=bars)


def terabyte_index_cold(run: Run) -> Row:
    """The same from the disk: a page for each header, and nothing around it."""
    file = run.files.terabyte
    mine = Side("lazyckpt", "first_index_cold", {"path": file.path})
    return compare(f"first index, {_sizes(file)}, cold", mine, repeat=run.turns(5), fresh=True)


def many_index(run: Run) -> Row:
    """The walk over many headers."""
    file = run.files.many
    mine = Side("lazyckpt", "first_index", {"path": file.path})
    bars = (Bar("seconds", 5.0), Bar("peak", 500 * MIB))
    name = f"first index, {len(file.values):,} parameters"
    return compare(name, mine, repeat=run.turns(3), fresh=True, bars=bars)


def holes_index(run: Run) -> Row:
    """The walk over a few headers, from page cache."""
    file = run.files.holes
    mine = Side("lazyckpt", "first_index", {"path": file.path})
    bars = (Bar("seconds", 20e-3),)
    return compare(f"first index, {_sizes(file)}", mine, repeat=run.turns(11), calls=3, bars=bars)


def lenet_first(run: Run) -> Row:
    """The first load of a small file: the walk is nothing, the sidecar all."""
    path = run.files.lenet.path
    mine = Side("lazyckpt", "first_load", {"path": path})
    bars = (Bar("ratio", 1.5),)
    return compare("first load, LeNet", mine, run.mindspore_side(path=path), repeat=run.turns(15), calls=5, bars=bars)


def lenet_first_all(run: Run) -> Row:
    """The same with every value, which MindSpore's load always reads."""
    path = run.files.lenet.path
    mine, peer = Side("lazyckpt", "first_load_all", {"path": path}), run.mindspore_side(path=path)
    return compare("first load + every value, LeNet", mine, peer, repeat=run.turns(15), calls=5)


def terabyte_row(run: Run) -> Row:
    """A small piece of a large value of a huge file."""
    file = run.files.terabyte
    name = file.values[len(file.values) // 2].name
    mine = Side("lazyckpt", "one_row", {"path": file.path, "name": name, "row": 2_500})
    bars = (Bar("extra", 100 * MIB),)
    return compare(f"one row of one of {_sizes(file)}", mine, repeat=run.turns(11), calls=10, bars=bars)


def large_view(run: Run) -> Row:
    """One value, looked at in place here, copied by the peer; both then add it up."""
    return _large_value(run, "view + sum", "view", touch=True)


def large_copy(run: Run) -> Row:
    """One value, copied on both sides."""
    return _large_value(run, "copy", "copy", touch=False)


def _large_value(run: Run, said: str, task: str, touch: bool) -> Row:
    file = run.files.large
    name = file.values[29].name
    mine = Side("lazyckpt", task, {"path": file.path, "name": name})
    python = sys.executable if importlib.util.find_spec("safetensors") else None
    arguments = {"path": run.files.large_safetensors, "name": name, "touch": touch}
    peer = Side("safetensors", "safetensors_value", arguments, ("safetensors", "numpy"), python)
    bars = (Bar("ratio", 1.0),)
    return compare(f"one of {_sizes(file)}, {said}", mine, peer, repeat=run.turns(21), calls=3, bars=bars)


def half_chosen(run: Run) -> Row:
    """What `choice_func` saves."""
    file = run.files.half
    arguments = {"path": file.path, "name": file.values[64].name}
    mine, peer = Side("lazyckpt", "chosen", arguments), run.mindspore_side(**arguments)
    return compare(f"one of {_sizes(file)}, chosen, sum", mine, peer, repeat=run.turns(5))


def _sizes(file: Made) -> str:
    return f"{len(file.values):,} x {memory(file.values[0].length)}"


OPEN = (terabyte_open, many_open, lenet_open)
INDEX = (terabyte_index, terabyte_index_cold, many_index, holes_index, lenet_first, lenet_first_all)
READ = (terabyte_row, large_view, large_copy, half_chosen)
