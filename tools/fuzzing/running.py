"""Reads mutants and judges the results.

Targets marked `apart` are read in forked processes, one batch each: a process that dies or hangs is a violation.
"""

from __future__ import annotations

import itertools
import math
import mmap
import os
import pickle
import re
import resource
import signal
import struct
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from fuzzing.mutation import mutants
from fuzzing.target import Target, folder

_BATCH = 2000  # mutants a process
_LONGEST = 60  # seconds that one may take there
SLOWEST = 1.0  # seconds
MOST_MEMORY = 200 * 2**20
ROOM = (
    8 * 2**20
)  # bytes that any mutant may take, however small: values are read in several ways, and memory comes in pages
_STATUS = re.compile(rb"VmHWM:\s+(\d+) kB")


class Outcome(NamedTuple):
    """The result of a target's mutants."""

    counts: Counter[str]
    slowest: float
    grown: int
    violations: list[str]

    def with_more(self, other: Outcome) -> Outcome:
        """This result added to another."""
        return Outcome(
            self.counts + other.counts,
            max(self.slowest, other.slowest),
            max(self.grown, other.grown),
            self.violations + other.violations,
        )


class Job(NamedTuple):
    """A target to fuzz, with its settings.

    Attributes:
        name: the target's name.
        target: the target.
        seed: the mutants' random seed.
        folder: the folder for mutants that break the contract.
        slowest: the seconds allowed for a mutant.
    """

    name: str
    target: Target
    seed: int = 0
    folder: Path = Path()
    slowest: float = SLOWEST


def fuzz(job: Job, count: int | None, seconds: float | None) -> Outcome:
    """Read mutants until there were `count`, or `seconds` are over, or ten broke the contract."""
    target = job.target
    seeds = target.seeds()
    end = time.monotonic() + (seconds or 0)
    if not target.apart:
        damaged = enumerate(mutants(seeds, job.seed, target.changes))
        return _run(job, f"{job.seed}", itertools.islice(damaged, count), end if count is None else None, int)
    total, batch = Outcome(Counter(), 0.0, 0, []), 0
    while (count is None and time.monotonic() < end) or (count is not None and batch * _BATCH < count):
        mark, left = f"{job.seed}-{batch}", _BATCH if count is None else count - batch * _BATCH
        damaged = enumerate(itertools.islice(mutants(seeds, mark, target.changes), min(left, _BATCH)))
        total = total.with_more(_in_child(job, mark, damaged, end if count is None else None))
        batch += 1
        if len(total.violations) >= 10:
            break
    return total


def _run(
    job: Job, mark: str, damaged: Iterable[tuple[int, bytes]], end: float | None, starting: Callable[[int], object]
) -> Outcome:
    counts, violations = Counter[str](), list[str]()
    slowest, before, most_grown = 0.0, memory(), 0
    for number, mutant in damaged:
        if (end is not None and time.monotonic() >= end) or len(violations) == 10:
            break
        starting(number)
        outcome, fault, took = judge(job.target, mutant, job.slowest)
        grown = max(0, memory() - before)  # the kernel counts in batches
        if grown > MOST_MEMORY:
            fault = fault or f"the process grew by {grown / 2**20:.0f} MiB"
            before += grown
        most_grown = max(most_grown, grown)
        counts[outcome] += 1
        slowest = max(slowest, took)
        if fault:
            violations.append(f"{keep(job, f'{mark}-{number}', mutant)}: {fault}")
    return Outcome(counts, slowest, most_grown, violations)


def keep(job: Job, mark: str, mutant: bytes) -> Path:
    """Write a mutant that broke the contract to a file."""
    path = job.folder / f"fuzz-{job.name}-{mark}.bin"
    path.write_bytes(mutant)
    return path


def _in_child(job: Job, mark: str, damaged: Iterator[tuple[int, bytes]], end: float | None) -> Outcome:
    """Read mutants in a forked process. If it dies, the mutant that it was at is a violation."""
    batch = list(damaged)
    current = mmap.mmap(-1, 8)  # the number of the mutant that is read

    def starting(number: int) -> None:
        signal.alarm(_LONGEST)  # one that hangs dies of it
        current[:8] = struct.pack("<q", number)

    folder()  # made here, because a child that exits at once would not remove it
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, pickle.dumps(_run(job, mark, batch, end, starting)))
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        outcome = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if outcome and status == 0:
        return pickle.loads(outcome)
    (number,) = struct.unpack("<q", current[:8])
    path = keep(job, f"{mark}-{number}", batch[number][1])
    return Outcome(Counter(died=1, read=number), 0.0, 0, [f"{path}: the process died ({status})"])


def judge(target: Target, mutant: bytes, slowest: float = SLOWEST) -> tuple[str, str, float]:
    """Read a mutant: whether it was read or refused, any violation, and the time.

    A slow one is read twice more, and its best time counts: the machine may have been busy. One that takes more memory
    than the target's bound is read again, and what Python allocates counts: the first read may have imported modules.
    """
    most = math.inf if target.memory is None else ROOM + target.memory * len(mutant)
    bounded = target.memory is not None and _forget_peak()
    before = memory() if bounded else 0
    outcome, fault, took = _read(target, mutant)
    grown = memory() - before if bounded else 0
    for _ in range(2):
        if took > slowest:
            took = min(took, _read(target, mutant)[2])
    if took > slowest:
        fault = fault or f"it took {took:.2f} s"
    if grown > most and (allocated := _allocated(target, mutant)) > most:
        fault = fault or f"it took {allocated:,} bytes of memory, {most:,.0f} are its bound"
    return outcome, fault, took


def _allocated(target: Target, mutant: bytes) -> int:
    """The most memory that Python allocates while it reads a mutant. This is slow."""
    tracemalloc.start()
    try:
        _read(target, mutant)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _forget_peak() -> bool:
    """Let the peak of this process be what it has now; False where the system does not allow that."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _read(target: Target, mutant: bytes) -> tuple[str, str, float]:
    start, outcome, fault = time.perf_counter(), "read", ""
    try:
        target.read(mutant)
    except target.allowed as error:
        outcome = "refused"
        if not isinstance(error, ValueError):
            fault = f"{type(error).__name__} is not a ValueError: {error}"
    except Exception as error:  # noqa: BLE001 (any other exception is a finding)
        outcome, fault = "broken", f"{type(error).__name__}: {error}"
    return outcome, fault, time.perf_counter() - start


def memory() -> int:
    """The most memory that the process has had, in bytes.

    On Linux from /proc, because `getrusage` may give the peak of the program that started this one.
    """
    try:
        return int(_STATUS.search(Path("/proc/self/status").read_bytes())[1]) * 1024
    except (OSError, TypeError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
