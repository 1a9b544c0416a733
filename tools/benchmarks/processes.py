"""The processes that tasks run in: one for each side, or, when only the tool itself is tried, one for many rows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from benchmarks.case import Side

TOOLS = Path(__file__).parents[1]


class Failed(Exception):
    """A task could not be done; the message is for the table."""


class Process:
    """A process that answers requests; see `worker`."""

    def __init__(self, python: str) -> None:
        env = dict(os.environ)
        if python != sys.executable:  # lazyckpt need not be installed there, but its dependencies must be
            env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TOOLS.parent), env.get("PYTHONPATH")]))
        self._pipe, theirs = Pipe()
        number = theirs.fileno()
        command = [python, "-m", "benchmarks.worker", str(number)]
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        self._process = subprocess.Popen(command, cwd=TOOLS, env=env, pass_fds=[number], **quiet)
        theirs.close()
        self.label = ""
        self.usable = True

    def ready(self, side: Side) -> Process:
        """Make a side's task ready."""
        self.label = side.label
        self.ask("ready", side.imports, side.task, side.arguments)
        return self

    def ask(self, what: str, *arguments: Any) -> dict[str, Any]:
        """Send a request, and wait for the answer; `Failed` if there is none."""
        self.send(what, *arguments)
        return self.answer()

    def send(self, what: str, *arguments: Any) -> None:
        """Send a request."""
        self.usable = False  # until it is answered
        try:
            self._pipe.send((what, arguments))
        except BrokenPipeError as error:
            raise Failed(f"{self.label}: the process died") from error

    def answer(self) -> dict[str, Any]:
        """Wait for the answer to the last request; `Failed` if there is none."""
        try:
            answer = self._pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            raise Failed(f"{self.label}: the process died") from error
        if "error" in answer:
            raise Failed(f"{self.label}: {answer['error']}")
        self.usable = True
        return answer

    def close(self) -> None:
        """End the process, and wait for its end."""
        self._pipe.close()
        self._process.wait()


class Processes(ExitStack):
    """Starts processes. With `kept`, one that has imported the same is used again, which saves time only."""

    def __init__(self, kept: bool = False) -> None:
        super().__init__()
        self._keeps = kept
        self._idle: dict[tuple[str, tuple[str, ...]], list[Process]] = {}

    @contextmanager
    def having(self, side: Side) -> Iterator[Process]:
        """A process that has a side's task ready."""
        idle = self._idle.setdefault((side.python, side.imports), [])
        process = idle.pop() if idle else Process(side.python)
        try:
            yield process.ready(side)
        finally:
            if self._keeps and process.usable:
                idle.append(process)
                self.callback(process.close)
            else:
                process.close()
