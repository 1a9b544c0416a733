"""Sides measured in turns: A B C A B C …, each in a process of its own, so that what disturbs one disturbs all.

A side's time is the median of its turns; a turn's is the median of its calls. Memory is that of one call in a process
that has done nothing but its imports, counting every resident page, those of mapped files too. Before anything is
timed (in fresh processes: in the first turn), each side does its task once for the digest of its result: a peer that
gives other bytes has not done the same work, and the row fails. A side that takes seconds gets fewer turns, and one
that is slow beside the others fewer calls in a turn; at four seconds it gets one turn, which gives its memory too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from benchmarks.case import Case, Side
from benchmarks.figures import Figures, Row
from benchmarks.peers import Peers
from benchmarks.processes import Failed, Process, Processes

_FEWER = ((4.0, 1), (1.5, 2), (0.7, 3))  # from so many seconds on, at most so many turns
_TURN = 0.1  # seconds that a turn of several calls should not exceed


class Measured:
    """What one side has answered so far."""

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
            with processes.having(self.side) as process:
                self.turns.append(process.ask("turn", 1, not self.turns))
            self.digest = self.turns[0]["digest"]
            self._adapt(self.turns[-1]["seconds"])

    def alone(self, processes: Processes) -> None:
        """Measure memory in a further process."""
        if self.side.memory and self._most_turns > 1:
            with processes.having(self.side) as process:
                answer = process.ask("turn", 1)
            for turn in self.turns:
                turn.update(extra=answer["extra"], peak=answer["peak"])

    def figures(self) -> Figures:
        """The figures for the row."""
        if not self.side.python or self.failed:
            return Figures(self.side.label, note="failed" if self.side.python else self.side.absent)
        memory = ([turn.get(what) for turn in self.turns] for what in ("extra", "peak", "private"))
        most = (
            max((size for size in sizes if size is not None and self.side.memory), default=None) for sizes in memory
        )
        return Figures(self.side.label, tuple(turn["seconds"] for turn in self.turns), *most)

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
    """Measure a row; `repeat`: turns in place of the row's; `quick`: figures do not matter, nor does memory."""
    mine, others, limit = peers.sides(case, processes)
    sides = [Measured(side) for side in (mine, *others, *([limit] if limit else []))]
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
    least = beside.pop() if limit else None
    return Row(name, first, tuple(beside), least, case.bars, "; ".join(faults))


def _each(sides: list[Measured], ask: Callable[[Measured], object]) -> None:
    """Ask each side that is there and has not failed."""
    for side in sides:
        if side.side.python and not side.failed:
            try:
                ask(side)
            except Failed as error:
                side.failed = str(error)
