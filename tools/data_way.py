"""Counts the modules of the package that data passes on its way, and how often the way changes from one to another.

    python tools/data_way.py            # the counts
    python tools/data_way.py --calls    # the calls as well, as a tree

Three ways are counted, of a small plain `.ckpt`, in a process that has been through them before, so that imports and
tables that are filled once do not count:

    open         a warm `load_checkpoint`
    value        `ckpt[name]` and its `asnumpy()`, for the first time; the process has met such a header before
    new shape    the same for a header that the process has not met, so that it is parsed field by field

A call of a Python function of the package counts for the module that the function is written in. A change is a call
into another module than that of the call before it. Calls of generated functions (of dataclasses and named tuples) and
of other packages do not count.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import lazyckpt

ROOT = Path(lazyckpt.__file__).parent
_unseen = count(2)  # rows of a shape that no measurement of this process has met


class Call(NamedTuple):
    """A call of a function of the package: how deep, in which module, and its name."""

    depth: int
    module: str
    function: str


class Way(NamedTuple):
    """The calls of one way, in order."""

    calls: list[Call]

    @property
    def modules(self) -> int:
        """How many modules are entered."""
        return len({call.module for call in self.calls})

    @property
    def changes(self) -> int:
        """How often a call is into another module than the one before."""
        entered = [call.module for call in self.calls]
        return sum(one != other for one, other in pairwise(entered))

    def tree(self) -> str:
        """The calls, one a line."""
        return "\n".join(f"{'  ' * call.depth}{call.module}: {call.function}" for call in self.calls)


def way_of(action: Callable[[], Any]) -> tuple[Any, Way]:
    """What an action gives, and its way through the package. Not for use by several threads at once."""
    calls: list[Call] = []
    depth = 0

    def profile(frame: Any, event: str, _: object) -> None:
        nonlocal depth
        file = Path(frame.f_code.co_filename)
        if event in ("call", "return") and file.is_relative_to(ROOT):
            if event == "return":
                depth -= 1
                return
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            calls.append(Call(depth, module, frame.f_code.co_name))
            depth += 1

    gc.collect()
    gc.disable()  # so that no finaliser of something else counts
    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        found = action()
    finally:
        sys.setprofile(before)
        gc.enable()
    return found, Way(calls)


def measure(folder: Path) -> dict[str, Way]:
    """The ways, of a checkpoint that is written to a folder."""
    path = str(folder / "small.ckpt")
    rows = next(_unseen)
    shapes = {"one": (4, 3), "other": (rows, 8)}
    lazyckpt.save_checkpoint({name: np.ones(shape, np.float32) for name, shape in shapes.items()}, path)
    with lazyckpt.load_checkpoint(path) as ckpt:
        ckpt["one"].asnumpy()
    ckpt, opened = way_of(lambda: lazyckpt.load_checkpoint(path))
    with ckpt:
        _, value = way_of(lambda: first_look(ckpt, "one"))
    with lazyckpt.load_checkpoint(path) as ckpt:
        _, new = way_of(lambda: first_look(ckpt, "other"))
    return {"open": opened, "value": value, "new shape": new}


def first_look(ckpt: lazyckpt.Checkpoint, name: str) -> Any:
    """A value that nothing has asked this checkpoint for."""
    return ckpt[name].asnumpy()


def main(arguments: list[str] | None = None) -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", action="store_true", help="print the calls as well, as a tree")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        for name, way in measure(Path(folder)).items():
            print(f"{name:<10} {way.modules:>3} modules, {way.changes:>3} changes")
            if options.calls:
                print(way.tree())


if __name__ == "__main__":
    main()
