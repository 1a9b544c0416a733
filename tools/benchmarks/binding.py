"""Rows about loading into nets, of MindSpore and of torch, beside their own loading.

Each call is in a process of its own that has made the net before memory is first looked at. What counts is the peak,
too: a net that is loaded should need little more than itself. Both sides of the rows about MindSpore run where
MindSpore is, so that Python must have what lazyckpt needs.
"""

from __future__ import annotations

from benchmarks.bars import MIB, PEER, WITHIN, sizes
from benchmarks.checkpoints import Made
from benchmarks.figures import Bar, Row
from benchmarks.processes import Side
from benchmarks.run import Run


def some(run: Run) -> Row:
    """A net that takes every eighth value of a file."""
    file = run.files.parts
    taken = file.names[::8]
    bars = (PEER, Bar("extra", 1.3 * len(taken) * file.values[0].length))
    return _mindspore(run, file, taken, f"{len(taken)} of {sizes(file)} into a MindSpore net", bars)


def everything(run: Run) -> Row:
    """A net that takes every value of a file."""
    file = run.files.large
    bars = (PEER, Bar("extra", file.values[0].length + 64 * MIB))
    return _mindspore(run, file, file.names, f"all of {sizes(file)} into a MindSpore net", bars)


def _mindspore(run: Run, file: Made, names: list[str], name: str, bars: tuple[Bar, ...]) -> Row:
    arguments = {"path": file.path, "names": names, "shape": file.values[0].shape}
    peers = run.mindspore("nets.mindspore_alone", **arguments)
    imports = ("mindspore", "lazyckpt", "lazyckpt.frameworks.mindspore")
    python, absent = run.beside.python("mindspore"), run.beside.why_absent("mindspore")
    mine = Side("lazyckpt", "nets.mindspore_by_lazyckpt", arguments, imports, python, absent=absent)
    return run.compare(name, mine, peers, turns=3, fresh=True, bars=bars)


def torch_some(run: Run) -> Row:
    """A module that takes every eighth value of a file."""
    file = run.files.parts
    taken = file.names[::8]
    return _torch(run, file, taken, f"{len(taken)} of {sizes(file)} into a torch module", (PEER, WITHIN))


def torch_everything(run: Run) -> Row:
    """A module that takes every value of a file."""
    file = run.files.large
    return _torch(run, file, file.names, f"all of {sizes(file)} into a torch module", (PEER, WITHIN))


def _torch(run: Run, file: Made, names: list[str], name: str, bars: tuple[Bar, ...]) -> Row:
    arguments = {"path": file.path, "names": names, "shape": file.values[0].shape}
    python = run.beside.python("torch")
    imports = ("torch", "lazyckpt:load_checkpoint", "lazyckpt.frameworks.torch")
    absent = run.beside.why_absent("torch")
    mine = Side("lazyckpt", "nets.torch_by_lazyckpt", arguments, imports, python, absent=absent)
    peers = []
    for peer, task in (("torch", "torch_by_torch"), ("safetensors-torch", "torch_by_safetensors")):
        if peer in run.beside.names:
            peers.append(run.beside.side(peer, f"nets.{task}", {**arguments, "path": run.same(file, peer)}))
    places = [place for place in file.places if place[0] in set(names)]
    copies = {"path": file.path, "values": places}
    bare = Side("copies by torch (limit)", "nets.torch_copies", copies, ("torch",), python, memory=False, absent=absent)
    return run.compare(name, mine, tuple(peers), bare, turns=5, bars=bars, alone=False)


BIND = (some, everything, torch_some, torch_everything)
