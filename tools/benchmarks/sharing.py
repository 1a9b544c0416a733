"""Rows about several processes that read the same file at once."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from benchmarks.bars import MIB, PEER, sizes
from benchmarks.figures import Bar, Figures, Row
from benchmarks.processes import Failed, Process, Side
from benchmarks.run import Run

_LOOK_UPS = 1_000


def sidecar(run: Run, count: int) -> Row:
    """So many processes look names up in one index: how long one look-up takes, and what each process keeps for itself.

    Private memory is Private_Clean + Private_Dirty of smaps_rollup while all are alive, less what it was after imports:
    the most that any of them has.
    """
    file = run.files.many
    arguments = {"by": "lazyckpt", "path": file.path, "names": file.names[:: max(1, len(file.names) // _LOOK_UPS)]}
    name = f"{count} processes, one index of {len(file.values):,}: open + look-up"
    row = _together(run, name, Side("lazyckpt", "opened.look_up", arguments), (), count, 3, _LOOK_UPS)
    return replace(row, bars=(Bar("private", 30 * MIB),))


def loaders(run: Run, count: int) -> Row:
    """So many processes read random values, as workers of a DataLoader do: what a value takes while all read."""
    file = run.files.half
    peers = ("safetensors", "safetensors-torch", "torch", "numpy", "h5py")
    mine, beside = run.opened("random_values", file, peers, names=file.names, seed=11)
    name = f"{count} processes, random values of {sizes(file)}, sum"
    return replace(_together(run, name, mine, beside, count, 5, 2), bars=(PEER,))


def _together(run: Run, name: str, mine: Side, peers: tuple[Side, ...], count: int, turns: int, calls: int) -> Row:
    """Sides in turns, each by so many processes at once; a turn's time is that of the slowest process."""
    sides = (mine, *peers)
    figures, faults = [Figures(side.label, note=side.absent) for side in sides], []
    with ExitStack() as stack:
        groups: dict[int, list[Process]] = {}
        taken: dict[int, list[float]] = {}
        try:
            for number, side in enumerate(sides):
                if side.python:
                    groups[number] = [stack.enter_context(run.processes.having(side)) for _ in range(count)]
                    taken[number] = []
            for turn in range(run.turns(turns) + 1):
                for number, group in groups.items():
                    seconds = _all(group, calls)
                    if turn:  # the first one warms up
                        taken[number].append(seconds)
            for number, group in groups.items():
                told = [process.ask(private=True)["private"] for process in group]
                most = None if None in told else max(told)
                figures[number] = Figures(sides[number].label, tuple(taken[number]), private=most)
        except Failed as error:
            faults.append(str(error))
    return Row(name, figures[0], tuple(figures[1:]), note="; ".join(faults))


def _all(group: list[Process], calls: int) -> float:
    for process in group:
        process.send(keep=calls)
    return max(process.answer()["seconds"] for process in group)


WORKERS = (
    partial(sidecar, count=4),
    partial(sidecar, count=8),
    partial(loaders, count=4),
)
