"""Rows about what importing costs, each import in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.measure import TOOLS, alternate
from benchmarks.run import Run
from benchmarks.table import Bar, Figures, Row

_TIMED = "import time; s = time.perf_counter(); import {}; print(time.perf_counter() - s)"


def statement(run: Run) -> Row:
    """The import statement alone."""
    return _imports(run, "import, the statement", lambda name: float(_python(_TIMED.format(name))))


def process(run: Run) -> Row:
    """From the interpreter's start to its end."""

    def whole(name: str) -> float:
        start = time.perf_counter()
        _python(f"import {name}")
        return time.perf_counter() - start

    return _imports(run, "import, the whole process", whole)


def _imports(run: Run, name: str, seconds: Callable[[str], float]) -> Row:
    names = ("lazyckpt", "numpy")
    for module in names:
        seconds(module)  # so that everything is compiled and in the page cache
    sides = [lambda module=module: {"seconds": seconds(module)} for module in names]
    mine, peer = (
        Figures(module, [turn["seconds"] for turn in turns])
        for module, turns in zip(names, alternate(sides, run.turns(15)), strict=True)
    )
    return Row(name, mine, peer, (Bar("ratio", 1.4),))


def _python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=TOOLS, check=True, capture_output=True, text=True).stdout


IMPORT = (statement, process)
