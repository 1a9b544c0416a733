"""Measure lazyckpt side by side with what it stands beside, and say which bars it meets.

    python tools/bench.py all --mindspore ~/ms/bin/python --json bench.json

Every figure is the median over turns that alternate between the two sides (A B A B), each side in a process of its
own, files in the page cache. Memory is that of one call in a fresh process beyond what its imports took; mapped pages
count. MindSpore is measured in a Python of its own (`--mindspore`), and safetensors if it is installed here. Both sides
of `bind`, loading into nets, run where MindSpore is, so that Python must have what lazyckpt needs, too.

A new row is a function in `benchmarks/` and a line in `ROWS`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.binding import BIND
from benchmarks.checkpoints import Checkpoints
from benchmarks.converting import CONVERT
from benchmarks.encrypted import CRYPTO
from benchmarks.importing import IMPORT
from benchmarks.plain import INDEX, OPEN, READ
from benchmarks.run import RowFunction, Run
from benchmarks.scaling import SCALE
from benchmarks.showing import SHOW
from benchmarks.table import Row, render

ROWS: dict[str, tuple[RowFunction, ...]] = {
    "open": OPEN,
    "index": INDEX,
    "read": READ,
    "crypto": CRYPTO,
    "show": SHOW,
    "convert": CONVERT,
    "bind": BIND,
    "import": IMPORT,
    "scale": SCALE,
}
PACKAGES = ("lazyckpt", "numpy", "lmdb", "cryptography")


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print the table."""
    asked = _asked(arguments)
    functions = [row for name in (ROWS if asked.rows == "all" else [asked.rows]) for row in ROWS[name]]
    full = asked.size == "full"
    with tempfile.TemporaryDirectory(prefix="lazyckpt-bench-", dir=asked.folder) as folder:
        run = Run(Checkpoints(folder, full), asked.mindspore, asked.repeat)
        rows = [_measured(function, run) for function in functions]
    print(render(rows, full))
    if asked.json:
        Path(asked.json).write_text(json.dumps(_report(rows, asked.size), indent=2) + "\n", encoding="utf-8")
    if any(row.note for row in rows):
        sys.exit("some rows could not be measured")


def _measured(function: RowFunction, run: Run) -> Row:
    start = time.perf_counter()
    row = function(run)
    print(f"{row.name}: measured in {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    return row


def _report(rows: list[Row], size: str) -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "packages": {name: importlib.import_module(name).__version__ for name in PACKAGES},
        "size": size,
        "rows": [row.as_json() for row in rows],
    }


def _asked(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", choices=(*ROWS, "all"), help="which rows")
    parser.add_argument("--json", metavar="FILE", help="write every figure here, too")
    parser.add_argument("--size", choices=("small", "full"), default="full", help="of the files; bars are for full")
    parser.add_argument("--quick", action="store_true", help="small files and two turns: does the tool work?")
    parser.add_argument("--repeat", type=int, metavar="N", help="turns a row (default: what suits the row)")
    parser.add_argument("--folder", metavar="DIR", help="where the files go; removed afterwards (default: temporary)")
    parser.add_argument(
        "--mindspore", metavar="PYTHON", help="a Python that has MindSpore (for bind also lazyckpt's needs)"
    )
    asked = parser.parse_args(arguments)
    if asked.repeat is not None and asked.repeat < 1:
        parser.error("--repeat must be at least 1")
    if asked.quick:
        asked.size, asked.repeat = "small", asked.repeat or 2
    return asked


if __name__ == "__main__":
    main()
