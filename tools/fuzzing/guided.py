"""Mutants guided by coverage (atheris, libFuzzer): those that reach new code are kept and mutated further.

Strategy: atheris must import the modules that it instruments, so a target is fuzzed in its own Python process
(`worker`), which prints the mutants that break the contract and continues; libFuzzer stops it when the time is over.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from fuzzing.target import MEMORY, PLACE
from fuzzing.worker import MOST, VIOLATION

_NONE = "--guided needs atheris: pip install atheris"
WORKER = Path(__file__).with_name("worker.py")
_TIMEOUT = 60  # seconds, after which a mutant hangs
_MEGABYTES = 1024  # that the process may have, what has been kept and what is counted included
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_COVERED = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")


class Guided(NamedTuple):
    """The result of a run.

    Attributes:
        executed: mutants that were read, seeds included.
        covered: reached code locations.
        kept: mutants in the corpus.
        violations: broken contracts.
        trouble: the process's message if it failed, or an empty string.
    """

    executed: int
    covered: int
    kept: int
    violations: list[str]
    trouble: str


def run(name: str, seed: int, seconds: float, folder: Path, slowest: float, corpus: Path | None) -> Guided:
    """Fuzz a target for so long in a Python of its own."""
    if importlib.util.find_spec("atheris") is None:
        raise SystemExit(_NONE)
    with tempfile.TemporaryDirectory(prefix="lazyckpt-fuzz-", dir=MEMORY) as temporary:
        kept = corpus / name if corpus else Path(temporary, "corpus")
        kept.mkdir(parents=True, exist_ok=True)
        ended = subprocess.run(
            [
                *(sys.executable, str(WORKER), name, str(slowest), str(folder), str(kept)),
                *(f"-max_total_time={max(1, round(seconds))}", f"-seed={seed + 1}", "-print_final_stats=1"),
                *(f"-timeout={_TIMEOUT}", f"-rss_limit_mb={_MEGABYTES}", f"-artifact_prefix={folder}/fuzz-{name}-"),
            ],
            env={**os.environ, PLACE: temporary},  # libFuzzer ends a process without a farewell
            stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", check=False,
        )  # fmt: skip
    violations = [line.removeprefix(VIOLATION) for line in ended.stdout.splitlines() if line.startswith(VIOLATION)]
    executed, covered = _EXECUTED.findall(ended.stderr), _COVERED.findall(ended.stderr)
    fine = bool(executed) and (ended.returncode == 0 or len(violations) >= MOST)
    return Guided(
        int(executed[-1]) if executed else 0,
        int(covered[-1][0]) if covered else 0,
        int(covered[-1][2]) if covered else 0,
        violations,
        "" if fine else f"the process ended with {ended.returncode}: {ended.stderr[-2000:]}",
    )
