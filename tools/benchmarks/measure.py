"""Measures sides in turns: A B C A B C …, each in its own process, so that a disturbance affects all.

A side's time is the median of its turns; a turn's is the median of its calls. Memory is measured for one call in a
process that has only done its imports. Each side does its task once, untimed, for the digest of its result: if a peer
returns other bytes, it has not done the same work, and the row fails. Slow sides get fewer turns with fewer calls.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from benchmarks.case import Case, Side
from benchmarks.figures import Figures, Row
from benchmarks.peers import Peers

_FEWER = ((4.0, 1), (1.5, 2), (0.7, 3))  # from so many seconds on, at most so many turns
_TURN = 0.1  # seconds that a turn of several calls should not exceed
_MEMORY = ("extra", "peak", "private")
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
        command = [python, "-m", "benchmarks.worker", str(theirs.fileno())]
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        self._process = subprocess.Popen(command, cwd=TOOLS, env=env, pass_fds=[theirs.fileno()], **quiet)
        theirs.close()
        self.label = ""
        self.usable = True

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
            process.label = side.label
            process.ask("ready", side.imports, side.task, side.arguments, side.forget)
            yield process
        finally:
            if self._keeps and process.usable:
                idle.append(process)
                self.callback(process.close)
            else:
                process.close()

    def once(self, side: Side, check: bool = False) -> dict[str, Any]:
        """Do a side's task once, in a process that has done nothing else."""
        with self.having(side) as process:
            return process.ask("turn", 1, check)


class Measured:
    """One side's results so far."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.turns: list[dict[str, Any]] = []
        self.failed = ""
        self.digest: str | None = None
        self._warm: list[Process] = []
        self._most_turns = 10**9
        self._most_calls = 10**9

    def warm_up(self, case: Case, processes: Processes, stack: ExitStack) -> None:
        """Start the processes that take all turns, and do the task for the first time."""
        self._warm = [stack.enter_context(processes.having(self.side)) for _ in range(case.processes)]
        if case.processes > 1:
            self._together(case.calls)
            return
        answer = self._warm[0].ask("turn", 1, True)
        self.digest = answer["digest"]
        if _TURN / 10 <= answer["seconds"] < _FEWER[0][0]:  # the first call alone builds an index
            answer = self._warm[0].ask("turn", 1)
        self._adapt(answer["seconds"])

    def turn(self, case: Case, processes: Processes) -> None:
        """Take a turn, unless there were turns enough: in the warm processes, or in a fresh one."""
        if len(self.turns) >= self._most_turns:
            return
        if case.processes > 1:
            self.turns.append(self._together(case.calls))
        elif self._warm:
            self.turns.append(self._warm[0].ask("turn", min(case.calls, self._most_calls)))
        else:
            self.turns.append(processes.once(self.side, check=not self.turns))
            self.digest = self.turns[0]["digest"]
            self._adapt(self.turns[-1]["seconds"])

    def alone(self, processes: Processes) -> None:
        """Measure memory in a further process."""
        if self.side.memory and self._most_turns > 1:
            answer = processes.once(self.side)
            for turn in self.turns:
                turn.update(extra=answer["extra"], peak=answer["peak"])

    def figures(self) -> Figures:
        """The figures for the row."""
        if not self.side.python or self.failed:
            return Figures(self.side.label, note="failed" if self.side.python else self.side.absent)
        known = {what: [turn[what] for turn in self.turns if turn.get(what) is not None] for what in _MEMORY}
        memory = [max(found, default=None) for found in known.values()] if self.side.memory else []
        return Figures(self.side.label, tuple(turn["seconds"] for turn in self.turns), *memory)

    def _together(self, calls: int) -> dict[str, Any]:
        """A turn of several processes takes the time of the slowest, and has the private memory of the largest."""
        for process in self._warm:
            process.send("keep", calls)
        answers = [process.answer() for process in self._warm]
        private = [answer["private"] for answer in answers]
        seconds = max(answer["seconds"] for answer in answers)
        return {"seconds": seconds, "private": None if None in private else max(private)}

    def _adapt(self, seconds: float) -> None:
        self._most_calls = max(1, int(_TURN / max(seconds, 1e-9)))
        self._most_turns = min([self._most_turns, *(most for limit, most in _FEWER if seconds >= limit)])


def measure(case: Case, peers: Peers, processes: Processes, repeat: int | None = None, quick: bool = False) -> Row:
    """Measure a row; `repeat`: turns instead of the row's; `quick`: neither figures nor memory matter."""
    sides = [Measured(side) for side in peers.sides(case, processes.once)]
    with ExitStack() as stack:
        if not case.fresh:
            _each(sides, lambda side: side.warm_up(case, processes, stack))
        for _ in range(case.turns if repeat is None else repeat):
            _each(sides, lambda side: side.turn(case, processes))
    if case.alone and not (case.fresh or quick or case.processes > 1):
        _each(sides, lambda side: side.alone(processes))
    faults = [side.failed for side in sides if side.failed]
    for side in sides[1:]:
        if None not in (side.digest, sides[0].digest) and side.digest != sides[0].digest:
            side.failed = f"{side.side.label} gives OTHER BYTES than lazyckpt"
            faults.append(side.failed)
    first, *beside = (side.figures() for side in sides)
    rate = f"{case.rate / first.median:,.0f} files/s" if first.median else "not measured"
    name = f"{case.name}: {rate}" if case.rate else case.name
    limit = beside.pop() if case.limit else None
    return Row(name, first, tuple(beside), limit, case.bars, "; ".join(faults))


def _each(sides: list[Measured], ask: Callable[[Measured], object]) -> None:
    """Ask each side that is there and has not failed."""
    for side in sides:
        if side.side.python and not side.failed:
            try:
                ask(side)
            except Failed as error:
                side.failed = str(error)
