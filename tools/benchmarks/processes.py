"""The processes that tasks run in: one for each side, or, when only the tool itself is tried, one for many rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

TOOLS = Path(__file__).parents[1]
LAZYCKPT = ("lazyckpt:load_checkpoint", "lazyckpt:build_index")


class Failed(Exception):
    """A task could not be done; the message is for the table."""


@dataclass(frozen=True)
class Side:
    """Something to measure.

    Attributes:
        label: what the table calls it.
        task: `module.function`, see `task.resolve`.
        arguments: of the task; keys are bytes.
        imports: what is imported, as `module` or `module:name`, before time and memory are first looked at.
        python: the interpreter; None if there is none here that could do it.
        memory: whether its memory means anything.
        absent: why there is no interpreter.
    """

    label: str
    task: str
    arguments: dict[str, Any]
    imports: tuple[str, ...] = LAZYCKPT
    python: str | None = sys.executable
    memory: bool = True
    absent: str = ""

    def called(self, label: str) -> Side:
        """The same under another label."""
        return replace(self, label=label)


class Process:
    """A process that answers (see `worker`)."""

    def __init__(self, python: str) -> None:
        pipe, env = subprocess.PIPE, dict(os.environ)
        if python != sys.executable:  # lazyckpt need not be installed there, but what it needs must be
            env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TOOLS.parent), env.get("PYTHONPATH")]))
        command = [python, "-m", "benchmarks.worker"]
        self._process = subprocess.Popen(
            command, cwd=TOOLS, env=env, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )
        self.label = ""
        self.usable = True

    def ready(self, side: Side) -> Process:
        """The same with a side's task ready."""
        self.label = side.label
        self.ask(job={"task": side.task, "imports": side.imports, "arguments": side.arguments})
        return self

    def ask(self, **what: Any) -> dict[str, Any]:
        """Ask for one thing, and wait for the answer.

        Raises:
            Failed: it could not be done.
        """
        self.send(**what)
        return self.answer()

    def send(self, **what: Any) -> None:
        """Ask for one thing."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(what, default=bytes.hex) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise Failed(f"{self.label}: the process died") from error

    def answer(self) -> dict[str, Any]:
        """Wait for what was asked for.

        Raises:
            Failed: it could not be done.
        """
        self.usable = False
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"{self.label}: the process died")
        told: dict[str, Any] = json.loads(line)
        if "error" in told:
            raise Failed(f"{self.label}: {told['error']}")
        self.usable = True
        return told

    def close(self) -> None:
        """End it, and wait for its end."""
        self._process.communicate()


class Processes:
    """Where processes come from. With `kept`, one that has imported the same is taken again, which saves time only."""

    def __init__(self, kept: bool = False) -> None:
        self._keeps = kept
        self._idle: dict[tuple[str, tuple[str, ...]], list[Process]] = {}

    @contextmanager
    def having(self, side: Side) -> Iterator[Process]:
        """A process that has a side's task ready."""
        assert side.python is not None
        idle = self._idle.setdefault((side.python, side.imports), [])
        process = idle.pop() if idle else Process(side.python)
        try:
            yield process.ready(side)
        except BaseException:
            process.close()
            raise
        if self._keeps and process.usable:
            idle.append(process)
        else:
            process.close()

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (process for idle in self._idle.values() for process in idle):
            process.close()
