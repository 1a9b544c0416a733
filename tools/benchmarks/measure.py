"""Two sides, measured in turns: A B A B …, each in a process of its own, so that what disturbs one disturbs both.

A side's time is the median of its turns; a turn's is the median of its calls. Memory is that of one call in a process
that has done nothing but its imports, counting every resident page, those of mapped files too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.table import Bar, Figures, Row

TOOLS = Path(__file__).parents[1]
Measured = dict[str, Any]  # what `worker.turn` answers


class Failed(Exception):
    """A task could not be done; the message is for the table."""


@dataclass(frozen=True)
class Side:
    """Something to measure.

    Attributes:
        label: what the table calls it.
        task: a name in `tasks.TASKS`.
        arguments: of the task; keys are bytes.
        imports: what is imported, as `module` or `module:name`, before time and memory are first looked at.
        python: the interpreter; None if there is none here that could do it.
        memory: whether its memory means anything.
    """

    label: str
    task: str
    arguments: Measured
    imports: tuple[str, ...] = ("lazyckpt:load_checkpoint", "lazyckpt:build_index")
    python: str | None = sys.executable
    memory: bool = True

    def called(self, label: str) -> Side:
        """The same under another label."""
        return replace(self, label=label)


def compare(
    name: str,
    mine: Side,
    peer: Side | None = None,
    *,
    repeat: int,
    calls: int = 1,
    fresh: bool = False,
    bars: tuple[Bar, ...] = (),
) -> Row:
    """Measure a row of the table.

    Args:
        name: the row's.
        mine: lazyckpt's side.
        peer: what it is compared with.
        repeat: turns of each side.
        calls: calls in a turn.
        fresh: each turn is the first call in a new process; else all turns are in one, after a warm-up.
        bars: what the row should reach.
    """
    sides = [side for side in (mine, peer) if side is not None and side.python]
    try:
        answers = _fresh(sides, repeat) if fresh else _warm(sides, repeat, calls)
    except Failed as error:
        return Row(name, Figures(mine.label, []), peer and Figures(peer.label, []), bars, str(error))
    figures = [_figures(side, answer) for side, answer in zip(sides, answers, strict=True)]
    other = None if peer is None else Figures(peer.label, []) if len(figures) == 1 else figures[1]
    return Row(name, figures[0], other, bars)


def alternate(sides: list[Callable[[], Measured]], repeat: int) -> list[list[Measured]]:
    """Call the sides in turns; the answers of each."""
    answers: list[list[Measured]] = [[] for _ in sides]
    for _ in range(repeat):
        for side, mine in zip(sides, answers, strict=True):
            mine.append(side())
    return answers


def _fresh(sides: list[Side], repeat: int) -> list[list[Measured]]:
    return alternate([lambda side=side: _once(side) for side in sides], repeat)


def _warm(sides: list[Side], repeat: int, calls: int) -> list[list[Measured]]:
    with ExitStack() as stack:
        workers = [stack.enter_context(_worker(side)) for side in sides]
        for ask in workers:
            ask(1)
        answers = alternate([lambda ask=ask: ask(calls) for ask in workers], repeat)
    for side, turns in zip(sides, answers, strict=True):
        alone = _once(side) if side.memory else {"extra": None, "peak": None}
        for turn in turns:
            turn.update(extra=alone["extra"], peak=alone["peak"])
    return answers


def _figures(side: Side, turns: list[Measured]) -> Figures:
    known = [turn for turn in turns if side.memory and turn["extra"] is not None]
    extra, peak = (max((turn[what] for turn in known), default=None) for what in ("extra", "peak"))
    return Figures(side.label, [turn["seconds"] for turn in turns], extra, peak)


def _once(side: Side) -> Measured:
    with _worker(side) as ask:
        return ask(1)


@contextmanager
def _worker(side: Side) -> Iterator[Callable[[int], Measured]]:
    """A process that has a side's task ready, as a function from a number of calls to what they took."""
    command = [str(side.python), "-m", "benchmarks.worker"]
    pipe, nothing, env = subprocess.PIPE, subprocess.DEVNULL, dict(os.environ)
    if side.python != sys.executable:  # lazyckpt need not be installed there, but what it needs must be
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TOOLS.parent), env.get("PYTHONPATH")]))
    with subprocess.Popen(command, cwd=TOOLS, env=env, stdin=pipe, stdout=pipe, stderr=nothing, text=True) as process:

        def ask(what: object) -> Measured:
            try:
                process.stdin.write(json.dumps(what, default=bytes.hex) + "\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            except BrokenPipeError:
                answer = ""
            if not answer:
                raise Failed(f"{side.label}: the process died")
            told = json.loads(answer)
            if "error" in told:
                raise Failed(f"{side.label}: {told['error']}")
            return told

        try:
            ask({"task": side.task, "imports": side.imports, "arguments": side.arguments})
            yield ask
        finally:
            process.stdin.close()
            process.wait()
