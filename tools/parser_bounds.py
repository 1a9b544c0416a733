"""Measure the memory and the CPU time that hostile files cost, and fail where a parser exceeds its bound.

    python tools/parser_bounds.py                          every specimen, in two sizes
    python tools/parser_bounds.py --only ckpt              one parser, or `ckpt:"many dims"`
    python tools/parser_bounds.py --beside ../before       another tree in the same run, and the ratio of the two

Each specimen (`fuzzing/hostile.py`) is read in a process of its own, which first reads a good file of the same kind, so
that imports are not counted. Memory is the peak of the process above that, without the pages of mapped files, in bytes
for each byte of the file; time is that of the processor, in seconds for each MB, the median of some runs. What a parser
costs must also be linear: a byte of the larger file may cost at most twice as much as one of the smaller.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fuzzing.hostile import GOOD, KEY, SPECIMENS

MB = 10**6
SIZES = (1, 4)  # MB
LEAST = 2**20  # bytes that any parser may take, however small a file
MOST_GROWTH = 2.0  # of the cost of a byte, from the smaller file to the larger


class Bound(NamedTuple):
    """What a parser may cost: bytes of memory for each byte of a file, and seconds for each MB."""

    memory: float
    seconds: float


CKPT, TEXT = Bound(16, 0.6), Bound(60, 1.5)
BOUNDS = {"ckpt": CKPT, "encrypted": CKPT} | dict.fromkeys(
    ("safetensors", "listing", "strategy", "json strategy", "group info"), TEXT
)
NAMES = {  # what a file of each kind is called
    "ckpt": "net.ckpt",
    "encrypted": "net.ckpt",
    "safetensors": "net.safetensors",
    "listing": "net.ckpt.index.json",
    "strategy": "strategy.ckpt",
    "json strategy": "strategy.json",
    "group info": "group_info.pb",
}


class Cost(NamedTuple):
    """What a file cost: bytes, seconds, and how reading it ended."""

    size: int
    memory: int
    seconds: float
    ended: str


class Row(NamedTuple):
    """A specimen, where its index was kept, and what each size of it cost."""

    kind: str
    name: str
    index: str
    costs: list[Cost]

    def faults(self, bound: Bound) -> list[str]:
        """How it breaks a bound."""
        found = [cost.ended for cost in self.costs if cost.ended.startswith("raw ")]
        for cost in self.costs:
            if cost.memory > LEAST + bound.memory * cost.size:
                found.append(f"{cost.memory / cost.size:.1f} bytes for each byte")
            if cost.seconds > bound.seconds * cost.size / MB:
                found.append(f"{cost.seconds / cost.size * MB:.2f} s for each MB")
        small, large = self.costs[0], self.costs[-1]
        growth = large.seconds / large.size - MOST_GROWTH * small.seconds / small.size
        if growth > 0.1 / MB:
            found.append("not linear")
        return found


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a line for each specimen, and return the exit code."""
    asked = _asked(arguments)
    if asked.child:
        print(json.dumps(_measured(*asked.child)))
        return 0
    broken = 0
    for kind, name, make in _chosen(asked.only):
        for index in ("memory", "auto") if kind in ("ckpt", "encrypted", "safetensors") else ("memory",):
            trees = [Path(__file__).parents[1], *([asked.beside] if asked.beside else [])]
            rows = [Row(kind, name, index, []) for _ in trees]
            for size in asked.sizes:
                data = make(int(size * MB))
                for row, tree in zip(rows, trees, strict=True):
                    row.costs.append(_cost(tree, kind, data, index, asked))
            faults = rows[0].faults(BOUNDS[kind])
            broken += bool(faults)
            print(_line(rows, faults), flush=True)
    print(f"{broken} specimens exceed their bound" if broken else "every parser keeps its bound")
    return 1 if broken else 0


def _line(rows: list[Row], faults: list[str]) -> str:
    def of(row: Row) -> str:
        parts = [
            f"{c.size / MB:.1f} MB: {c.memory / c.size:6.1f} B, {c.seconds / c.size * MB:5.2f} s" for c in row.costs
        ]
        return " | ".join(parts)

    first = rows[0]
    line = f"{first.kind}, {first.name}, {first.index}: {of(first)} ({first.costs[-1].ended})"
    for other in rows[1:]:
        memory = other.costs[-1].memory / max(1, first.costs[-1].memory)
        seconds = other.costs[-1].seconds / max(1e-9, first.costs[-1].seconds)
        line += f"; beside: {of(other)} ({other.costs[-1].ended}); ratio {memory:.1f}, {seconds:.1f}"
    return line + "".join(f"  ** {fault}" for fault in faults)


def _chosen(only: list[str] | None) -> Iterator[tuple[str, str, Callable[[int], bytes]]]:
    for kind, specimens in SPECIMENS.items():
        for name, make in specimens.items():
            if not only or kind in only or f"{kind}:{name}" in only:
                yield kind, name, make


def _cost(tree: Path, kind: str, data: bytes, index: str, asked: argparse.Namespace) -> Cost:
    """The medians of some runs in processes of their own."""
    with tempfile.TemporaryDirectory(prefix="lazyckpt-bounds-", dir=asked.folder) as folder:
        good, hostile = Path(folder, "good"), Path(folder, "hostile")
        for place, content in ((good, GOOD[kind]), (hostile, data)):
            place.mkdir()
            (place / NAMES[kind]).write_bytes(content)
            (place / "part.ckpt").write_bytes(GOOD["ckpt"])
        program = [
            sys.executable,
            __file__,
            "--child",
            kind,
            str(good / NAMES[kind]),
            str(hostile / NAMES[kind]),
            index,
        ]
        environment = os.environ | {"PYTHONPATH": str(tree), "LAZYCKPT_CACHE": folder}
        runs = []
        for _ in range(asked.repeat):
            for left in Path(folder).glob("*/*.lmdb*"):
                left.unlink()
            ended = subprocess.run(
                [*program, *(["trace"] if asked.trace else [])],
                env=environment, capture_output=True, encoding="utf-8", check=False, timeout=asked.timeout,
            )  # fmt: skip
            if ended.returncode:
                runs.append((0, 0.0, f"raw exit {ended.returncode}: {ended.stderr[-200:]}"))
            else:
                runs.append(tuple(json.loads(ended.stdout)))
    return Cost(
        len(data), statistics.median_high(run[0] for run in runs), statistics.median(run[1] for run in runs), runs[0][2]
    )


def _measured(kind: str, good: str, hostile: str, index: str, trace: str = "") -> tuple[int, float, str]:
    """Read a good file, then a hostile one: memory, time, and how it ended."""
    read = READERS.get(kind, _opened)
    read(good, index)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is now what the process has
    before = _memory()
    if trace:
        tracemalloc.start()
    start = _seconds()
    try:
        read(hostile, index)
        ended = "read"
    except Exception as error:  # noqa: BLE001 (what is not ours is a finding)
        ours = type(error).__module__ == "lazyckpt.errors"
        ended = ("" if ours else "raw ") + f"{type(error).__name__}: {str(error)[:60]!r}"
    seconds = _seconds() - start
    after = _memory()
    if trace:
        return tracemalloc.get_traced_memory()[1], seconds, ended
    return after["VmHWM"] - before["VmRSS"] - (after["RssFile"] - before["RssFile"]), seconds, ended


def _seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _memory() -> dict[str, int]:
    """Sizes of this process in bytes, by the names of Linux."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return {name: int(kb) * 1024 for name, kb in re.findall(r"(\w+):\s+(\d+) kB", status)}


def _opened(path: str, index: str) -> None:
    """Open a checkpoint or a listing, and walk over its names."""
    from lazyckpt import load_checkpoint

    key = {"dec_key": KEY} if Path(path).read_bytes()[:4] == b"\xd8\x5e\x3a\x7f" else {}
    form = "safetensors" if path.endswith("safetensors") else "ckpt"
    with load_checkpoint(path, index=index, format=form, **key) as checkpoint:
        for _ in checkpoint:
            pass


def _strategy(path: str, _: str) -> None:
    from lazyckpt.sharding.strategy import read_strategy

    read_strategy([path])


def _group_info(path: str, _: str) -> None:
    from lazyckpt.sharding.group_info import read_group_info

    read_group_info(path)


READERS: dict[str, Callable[[str, str], None]] = {
    "strategy": _strategy,
    "json strategy": _strategy,
    "group info": _group_info,
}


def _asked(arguments: list[str] | None) -> Any:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", metavar="KIND[:NAME]", help="some specimens (default: all)")
    parser.add_argument("--sizes", type=float, nargs="+", default=SIZES, metavar="MB", help="sizes of the files")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, of which the median counts (default 3)")
    parser.add_argument("--beside", type=Path, metavar="TREE", help="another tree of lazyckpt to measure as well")
    parser.add_argument("--trace", action="store_true", help="count memory by tracemalloc (which makes it slow)")
    parser.add_argument("--folder", type=Path, help="where the files are made (default: the system's temporary folder)")
    parser.add_argument("--timeout", type=float, default=600, help="seconds after which a process is ended")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
