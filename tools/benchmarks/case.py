"""A row of the benchmark: the work, the sides that do it, the repetitions, and the required bars."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.figures import Bar
from benchmarks.files import Made
from benchmarks.tasks import Task

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
PEER = Bar("ratio", 1.1)  # where the work is the same
NEAR = Bar("limit", 1.3)  # warm opens, loads in order, full reads of GCM and SM4
WITHIN = Bar("limit", 2)  # everything else
MINDSPORE = Bar("ratio", 0.01)  # opens and encrypted subsets
LAZYCKPT = ("lazyckpt:load_checkpoint", "lazyckpt:build_index")


@dataclass(frozen=True)
class Side:
    """A task that one side of a row does, in processes of its own."""

    label: str
    task: Callable[..., Task]
    arguments: dict[str, Any]  # the task's arguments; keys are bytes
    imports: tuple[str, ...] = LAZYCKPT  # `module` or `module:name`, before time and memory are first looked at
    forget: str = ""  # dropped before each call, untimed; see `tasks.forget`
    python: str | None = sys.executable  # the interpreter; None if none here can do it
    memory: bool = True  # whether its memory means anything
    absent: str = ""  # the reason for a missing interpreter


@dataclass(frozen=True)
class Case:
    """One row to measure: lazyckpt and its peers do a task with the same arguments, each on its own form of a file."""

    name: str
    file: Made | None  # gives each side its `path`; without a file the arguments are all
    task: Callable[..., Task]
    arguments: dict[str, Any] = field(default_factory=dict)
    peers: tuple[str | Side, ...] = ()  # names, or sides that do other work
    limit: Side | None = None
    turns: int = 5  # for each side, in alternation
    calls: int = 1  # calls in a turn
    bars: tuple[Bar, ...] = ()
    forget: str = ""  # dropped before each call of lazyckpt and the peers
    fresh: bool = False  # each turn is the first call in a new process; else all are in one, after a warm-up
    alone: bool = True  # whether memory is measured in a further process, where turns share one
    processes: int = 1  # that do the task at the same time; a turn's time is that of the slowest
    imports: tuple[str, ...] = LAZYCKPT  # imports of lazyckpt's side
    within: str = ""  # the peer in whose Python lazyckpt's side and the limit run
    memory: bool = True  # whether the memory of lazyckpt's side means anything
    rate: int = 0  # files that a call indexes: the row's name gives them per second

    def of_file(self, path: str = "") -> dict[str, Any]:
        """The arguments of a side, with the path of its own form of the file; by default the file itself."""
        return {"path": path or self.file.path, **self.arguments} if self.file else self.arguments


def limit(label: str, task: Callable[..., Task], file: Made, *imports: str, forget: str = "", **arguments: Any) -> Side:
    """A side that shows the least that something takes."""
    return Side(f"{label} (limit)", task, {"path": file.path, **arguments}, imports, forget, memory=False)
