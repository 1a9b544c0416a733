"""Rows about what importing costs, each import in a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.figures import Bar, Figures, Row
from benchmarks.processes import TOOLS
from benchmarks.run import Run

_BAR = (Bar("ratio", 1.4),)
_NUMPY = "import numpy"
# A package that was never compiled, as numpy was when it was installed, would be compiled again by each process.
_COMPILING = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def statement(run: Run) -> Row:
    """The import statement alone."""
    return _imports(run, "import lazyckpt, the statement", "import lazyckpt", _inside, _BAR)


def process(run: Run) -> Row:
    """From the interpreter's start to its end."""
    return _imports(run, "import lazyckpt, the whole process", "import lazyckpt", _whole, _BAR)


def usable(run: Run) -> Row:
    """What has to be imported before a first checkpoint can be loaded: the package brings it in when asked for."""
    return _imports(run, "import load_checkpoint, the statement", "from lazyckpt import load_checkpoint", _inside, _BAR)


def _imports(run: Run, name: str, code: str, seconds: Callable[[str], float], bars: tuple[Bar, ...] = ()) -> Row:
    for each in (code, _NUMPY):
        seconds(each)  # so that everything is compiled and in the page cache
    taken: dict[str, list[float]] = {code: [], _NUMPY: []}
    for _ in range(run.turns(15)):
        for each, times in taken.items():
            times.append(seconds(each))
    mine, peer = (Figures(label, tuple(taken[each])) for label, each in (("lazyckpt", code), ("numpy", _NUMPY)))
    return Row(name, mine, (peer,), None, bars)


def _inside(code: str) -> float:
    return float(_python(f"import time; s = time.perf_counter(); {code}; print(time.perf_counter() - s)"))


def _whole(code: str) -> float:
    start = time.perf_counter()
    _python(code)
    return time.perf_counter() - start


def _python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=TOOLS, env=_COMPILING, check=True, capture_output=True, text=True).stdout


IMPORT = (statement, process, usable)
