"""Rows about loading into MindSpore nets, beside MindSpore's own loading.

Both sides run in a Python that has MindSpore, each call in a process of its own that has made the net before memory is
first looked at. What counts is the peak: a net that is loaded should need little more than itself.
"""

from __future__ import annotations

from benchmarks.checkpoints import MIB, Made
from benchmarks.measure import Side, compare
from benchmarks.run import Run
from benchmarks.table import Bar, Figures, Row, memory


def some(run: Run) -> Row:
    """A net that takes every eighth value of a file."""
    file = run.files.parts
    taken = len(file.values[::8])
    bars = (Bar("extra", 1.3 * taken * file.values[0].length),)
    return _bound(run, file, 8, f"{taken} of {len(file.values)} x {memory(file.values[0].length)} into a net", bars)


def everything(run: Run) -> Row:
    """A net that takes every value of a file."""
    file = run.files.whole
    bars = (Bar("extra", file.values[0].length + 64 * MIB),)
    return _bound(run, file, 1, f"all of {len(file.values)} x {memory(file.values[0].length)} into a net", bars)


def _bound(run: Run, file: Made, every: int, name: str, bars: tuple[Bar, ...]) -> Row:
    if run.mindspore is None:
        return Row(name, Figures("lazyckpt", []), Figures("MindSpore", []), bars)
    names = [value.name for value in file.values[::every]]
    arguments = {"path": file.path, "names": names, "length": file.values[0].length}
    imports = ("mindspore", "lazyckpt", "lazyckpt.frameworks.mindspore")
    mine = Side("lazyckpt", "bind", arguments, imports, run.mindspore)
    peer = Side("MindSpore", "mindspore_bind", arguments, ("mindspore",), run.mindspore)
    return compare(name, mine, peer, repeat=run.turns(3), fresh=True, bars=bars)


BIND = (some, everything)
