"""Sides measured in turns: A B C A B C …, each in a process of its own, so that what disturbs one disturbs all.

A side's time is the median of its turns; a turn's is the median of its calls. Memory is that of one call in a process
that has done nothing but its imports, counting every resident page, those of mapped files too. Before anything is
timed (in fresh processes: in the first turn), each side does its task once for the digest of what it gave: a peer
that gives other bytes has not done the same work, and the row fails. A side that takes seconds gets fewer turns, and
one that is slow beside the others fewer calls in a turn; at four seconds it is one, which tells memory, too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import Bar, Figures, Row
from benchmarks.processes import Failed, Process, Processes, Side

Measured = dict[str, Any]  # what the worker answers
_FEWER = ((4.0, 1), (1.5, 2), (0.7, 3))  # from so many seconds on, at most so many turns
_TURN = 0.1  # seconds that a turn of several calls should not exceed


@dataclass(frozen=True)
class Turns:
    """How a row is measured.

    Attributes:
        repeat: turns of each side.
        calls: calls in a turn.
        fresh: each turn is the first call in a new process; else all turns are in one, after a warm-up.
        alone: whether memory is measured by a further process where turns share one.
    """

    repeat: int
    calls: int = 1
    fresh: bool = False
    alone: bool = True


class Told:
    """What one side has answered so far."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.turns: list[Measured] = []
        self.digest: str | None = None
        self.failed = ""
        self.most = 10**9  # turns
        self.calls = 10**9  # in a turn
        self.process: Process | None = None

    def tried(self, ask: Callable[[], None]) -> None:
        """Do something of the side's, once it has not failed."""
        if self.failed or len(self.turns) >= self.most:
            return
        try:
            ask()
        except Failed as error:
            self.failed = str(error)

    def slow(self, seconds: float) -> None:
        """What one call takes."""
        self.calls = max(1, int(_TURN / max(seconds, 1e-9)))
        self.most = min([self.most, *(most for limit, most in _FEWER if seconds >= limit)])

    def figures(self) -> Figures:
        """For the row."""
        side = self.side
        if not side.python or self.failed:
            return Figures(side.label, note="failed" if side.python else side.absent)
        known = [turn for turn in self.turns if side.memory and turn["extra"] is not None]
        extra, peak = (max((turn[what] for turn in known), default=None) for what in ("extra", "peak"))
        return Figures(side.label, tuple(turn["seconds"] for turn in self.turns), extra, peak)


def compare(
    name: str,
    mine: Side,
    peers: tuple[Side, ...],
    limit: Side | None,
    bars: tuple[Bar, ...],
    turns: Turns,
    processes: Processes,
) -> Row:
    """Measure a row of the table.

    Args:
        name: the row's.
        mine: lazyckpt's side.
        peers: what does the same.
        limit: the least that it takes.
        bars: what the row should reach.
        turns: how often.
        processes: where processes come from.
    """
    sides = [Told(side) for side in (mine, *peers, *((limit,) if limit else ()))]
    (_fresh if turns.fresh else _warm)([side for side in sides if side.side.python], turns, processes)
    faults = [side.failed for side in sides if side.failed]
    for side in sides[1:]:
        if None not in (side.digest, sides[0].digest) and side.digest != sides[0].digest:
            side.failed = f"{side.side.label} gives OTHER BYTES than lazyckpt"
            faults.append(side.failed)
    first, *others = (side.figures() for side in sides)
    beside = tuple(others[: len(peers)])
    return Row(name, first, beside, others[-1] if limit else None, bars, "; ".join(faults))


def _fresh(sides: list[Told], turns: Turns, processes: Processes) -> None:
    for number in range(turns.repeat):
        for side in sides:
            side.tried(lambda side=side, number=number: _once(side, processes, check=number == 0))


def _once(told: Told, processes: Processes, check: bool) -> None:
    with processes.having(told.side) as process:
        answer = process.ask(check=True) if check else process.ask(turn=1)
    told.turns.append(answer)
    told.slow(answer["seconds"])
    told.digest = answer.get("digest", told.digest)


def _warm(sides: list[Told], turns: Turns, processes: Processes) -> None:
    with ExitStack() as stack:
        for side in sides:
            side.tried(lambda side=side: _warmed(side, stack, processes))
        for _ in range(turns.repeat):
            for side in sides:
                side.tried(lambda side=side: _again(side, turns.calls))
    if turns.alone:
        for side in sides:
            if side.side.memory and not side.failed and side.most > 1:
                _alone(side, processes)


def _warmed(told: Told, stack: ExitStack, processes: Processes) -> None:
    told.process = stack.enter_context(processes.having(told.side))
    answer = told.process.ask(check=True)
    told.digest = answer["digest"]
    if _TURN / 10 <= answer["seconds"] < _FEWER[0][0]:  # what is done at first only, an index, says nothing of the rest
        answer = told.process.ask(turn=1)
    told.slow(answer["seconds"])


def _again(told: Told, calls: int) -> None:
    told.turns.append(told.process.ask(turn=min(calls, told.calls)))


def _alone(told: Told, processes: Processes) -> None:
    try:
        with processes.having(told.side) as process:
            answer = process.ask(turn=1)
    except Failed as error:
        told.failed = str(error)
        return
    for turn in told.turns:
        turn.update(extra=answer["extra"], peak=answer["peak"])
