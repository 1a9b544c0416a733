"""What every row is given: the files, the peers, how often to measure, and the sides that many rows have."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.checkpoints import Checkpoints, Made
from benchmarks.figures import Bar, Row
from benchmarks.measure import Turns, compare
from benchmarks.peers import PEERS, Beside
from benchmarks.processes import Processes, Side

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Run:
    """One run of the tool.

    Attributes:
        files: what is measured.
        beside: the peers.
        processes: where processes come from.
        repeat: turns a row; None for as many as each row takes of itself.
        quick: whether figures do not matter.
    """

    files: Checkpoints
    beside: Beside
    processes: Processes
    repeat: int | None = None
    quick: bool = False

    def turns(self, usual: int) -> int:
        """How many turns a row takes."""
        return usual if self.repeat is None else self.repeat

    def compare(
        self,
        name: str,
        mine: Side,
        peers: tuple[Side, ...] = (),
        limit: Side | None = None,
        *,
        turns: int,
        calls: int = 1,
        fresh: bool = False,
        bars: tuple[Bar, ...] = (),
        alone: bool = True,
    ) -> Row:
        """Measure a row; see `measure.compare`."""
        how = Turns(self.turns(turns), calls, fresh, alone and not self.quick)
        return compare(name, mine, peers, limit, bars, how, self.processes)

    def opened(
        self, task: str, file: Made, peers: tuple[str, ...], /, **arguments: Any
    ) -> tuple[Side, tuple[Side, ...]]:
        """Lazyckpt and the named peers doing a task of `opened`, each with its own form of a file."""
        mine = Side("lazyckpt", f"opened.{task}", {"by": "lazyckpt", "path": file.path, **arguments})
        return mine, tuple(self._opened(task, file, name, arguments) for name in peers if name in self.beside.names)

    def _opened(self, task: str, file: Made, name: str, arguments: dict[str, Any]) -> Side:
        if not self.beside.python(name):
            return self.beside.side(name, "", {})
        return self.beside.side(name, f"opened.{task}", {"by": name, "path": self.same(file, name), **arguments})

    def same(self, file: Made, name: str) -> str:
        """A file's values in a peer's form, which the peer writes on first need; empty if the peer is not there."""
        form = PEERS[name].form
        target = f"{file.path}.{form}"
        if not self.beside.python(name):
            return ""
        if target not in self.files.others:
            arguments = {"path": file.path, "target": target, "form": form, "values": file.places}
            with self.processes.having(self.beside.side(name, "forms.written", arguments)) as process:
                process.ask(turn=1)
            self.files.others.add(target)
        return target

    def mindspore(self, task: str, **arguments: Any) -> tuple[Side, ...]:
        """MindSpore doing a task, if it was asked for."""
        return (self.beside.side("mindspore", task, arguments),) if "mindspore" in self.beside.names else ()


def limit(label: str, task: str, imports: tuple[str, ...] = ("numpy",), **arguments: Any) -> Side:
    """A side that shows the least that something takes: a task of `limits`."""
    return Side(f"{label} (limit)", f"limits.{task}", arguments, imports, memory=False)


RowFunction = Callable[[Run], Row]
