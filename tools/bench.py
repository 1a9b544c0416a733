"""Benchmark lazyckpt against its peers and the limits of the machine, and judge its bars.

    python tools/bench.py all --mindspore ~/ms/bin/python --json bench.json --plot bench.svg
    python tools/bench.py read slice --peers safetensors,torch
    python tools/bench.py render --json docs/benchmarks.json --plot docs/images/benchmarks.svg \
        --markdown docs/benchmarks.md

Every figure is the median over turns that alternate between the sides (A B C A B C). Each side runs in its own process,
with the files in the page cache unless a row says "cold". Memory is the increase during one call in a fresh process
after the imports; mapped pages count. The tool compares the bytes that the sides return, and different bytes fail the
row. MindSpore runs in a separate Python (`--mindspore`), which for `bind` also needs the dependencies of lazyckpt. The
other peers are measured if they are installed in this Python, and listed as absent if not.

To add a row, write a function in `benchmarks/`, and add its name to the tuple at the end of the module.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import machine, markdown, plot, report
from benchmarks.binding import BIND
from benchmarks.checkpoints import Checkpoints
from benchmarks.converting import CONVERT
from benchmarks.encrypted import CRYPTO
from benchmarks.figures import Figures, Row
from benchmarks.importing import IMPORT
from benchmarks.indexing import INDEX
from benchmarks.opening import OPEN
from benchmarks.peers import PEERS, Beside
from benchmarks.processes import Failed, Processes
from benchmarks.reading import READ
from benchmarks.run import RowFunction, Run
from benchmarks.scaling import QUICK_SCALE, SCALE
from benchmarks.sharing import WORKERS
from benchmarks.showing import SHOW, STATS
from benchmarks.slicing import SLICE
from benchmarks.table import render

ROWS: dict[str, tuple[RowFunction, ...]] = {
    "open": OPEN,
    "index": INDEX,
    "read": READ,
    "slice": SLICE,
    "crypto": CRYPTO,
    "bind": BIND,
    "convert": CONVERT,
    "stats": STATS,
    "workers": WORKERS,
    "show": SHOW,
    "import": IMPORT,
    "scale": SCALE,
}


def main(arguments: list[str] | None = None) -> None:
    """Measure, or read a report, and print the table."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))  # exiting also removes the files
    asked = _asked(arguments)
    if asked.rows == ["render"]:
        found = report.read(asked.json)
    else:
        found = _measured(asked)
        if asked.json:
            found.write(asked.json)
    print(render(list(found.rows), found.full))
    for name, how in found.absent.items():
        print(f"not measured: {name} ({how})")
    if asked.plot:
        plot.draw(found, asked.plot)
    if asked.markdown:
        picture = asked.plot and os.path.relpath(asked.plot, Path(asked.markdown).parent)
        markdown.put(found, asked.markdown, picture)
    if found.failed:
        sys.exit("\n".join(["some rows failed:", *found.failed]))


def _measured(asked: argparse.Namespace) -> report.Report:
    beside = Beside(asked.peers, asked.mindspore)
    groups = list(ROWS) if asked.rows == ["all"] else asked.rows
    folders = tempfile.TemporaryDirectory(prefix="lazyckpt-bench-", dir=asked.folder)
    with folders as folder, Processes(kept=asked.quick) as processes:
        run = Run(Checkpoints(folder, asked.size == "full"), beside, processes, asked.repeat, asked.quick)
        chosen = {**ROWS, "scale": QUICK_SCALE} if asked.quick else ROWS
        rows = tuple(_timed(function, run).of(group) for group in groups for function in chosen[group])
    return report.Report(asked.size, machine.described(beside.versions()), beside.absent(), rows)


def _timed(function: RowFunction, run: Run) -> Row:
    start, used = time.perf_counter(), sum(os.times()[:4])
    try:
        row = function(run)
    except Failed as error:  # failed before measuring: a peer could not write its own file format
        row = Row(getattr(function, "func", function).__name__, Figures("lazyckpt"), note=str(error))
    passed, used = time.perf_counter() - start, sum(os.times()[:4]) - used
    print(f"{row.name}: measured in {passed:.1f} s ({used:.1f} s of processors)", file=sys.stderr, flush=True)
    return row


def _peers(text: str) -> tuple[str, ...]:
    names = {"all": tuple(PEERS), "none": ()}.get(text, tuple(text.split(",")))
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(PEERS)}, or all, or none")
    return names


def _asked(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    choices = (*ROWS, "all", "render")
    parser.add_argument(
        "rows", nargs="+", choices=choices, help="what to measure; render: measure nothing, read --json FILE"
    )
    parser.add_argument("--json", metavar="FILE", help="also write all figures to this file")
    parser.add_argument("--plot", metavar="FILE", help="draw a plot (.svg, .png); needs matplotlib")
    parser.add_argument("--markdown", metavar="FILE", help="insert the figures between the markers of this page")
    parser.add_argument(
        "--size", choices=("small", "full"), default="full", help="the size of the files; bars apply to full"
    )
    parser.add_argument(
        "--peers", type=_peers, default="all", metavar="NAMES", help="all, none, or names separated by commas"
    )
    parser.add_argument("--quick", action="store_true", help="use small files and two turns, to test the tool")
    parser.add_argument(
        "--repeat", type=int, metavar="N", help="the number of turns for each row (default: set by the row)"
    )
    parser.add_argument(
        "--folder", metavar="DIR", help="the folder for the files, which are removed afterwards (default: temporary)"
    )
    parser.add_argument(
        "--mindspore",
        metavar="PYTHON",
        help="a Python with MindSpore (for bind, also with the dependencies of lazyckpt)",
    )
    asked = parser.parse_args(arguments)
    if asked.repeat is not None and asked.repeat < 1:
        parser.error("--repeat must be at least 1")
    if len(asked.rows) > 1 and {"all", "render"} & set(asked.rows):
        parser.error("all and render cannot be combined with other rows")
    if asked.rows == ["render"] and not asked.json:
        parser.error("render needs --json FILE, the report of an earlier run")
    if asked.quick:
        asked.size, asked.repeat = "small", asked.repeat or 2
    return asked


if __name__ == "__main__":
    main()
