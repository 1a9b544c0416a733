"""Mutants that coverage guides (atheris, libFuzzer): those that reach new code are kept, and damaged further.

Strategy: what is to be watched must be imported by atheris, so a target is fuzzed in a Python of its own, which runs
this file. It judges each mutant as ever, writes to its output which ones break the contract, and goes on; libFuzzer
ends it when the time is over. Half of the mutants are made by libFuzzer, half by the target's own changes.
"""

from __future__ import annotations

import importlib.util
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

_NONE = "--guided needs atheris: pip install atheris"
_VIOLATION = "violation: "
_MOST = 10  # violations
_TIMEOUT = 60  # seconds, after which a mutant hangs
_MEGABYTES = 1024  # that the process may have, what has been kept and what is counted included
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_COVERED = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")


class Guided(NamedTuple):
    """What came of a run.

    Attributes:
        executed: mutants that were read, seeds included.
        covered: places of the code that were reached.
        kept: mutants in the corpus.
        violations: what broke the contract.
        trouble: what the process said when it ended as it should not, or an empty string.
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
    with tempfile.TemporaryDirectory(prefix="lazyckpt-corpus-") as temporary:
        kept = corpus / name if corpus else Path(temporary)
        kept.mkdir(parents=True, exist_ok=True)
        ended = subprocess.run(
            [
                *(sys.executable, __file__, name, str(slowest), str(folder), str(kept)),
                *(f"-max_total_time={max(1, round(seconds))}", f"-seed={seed + 1}", "-print_final_stats=1"),
                *(f"-timeout={_TIMEOUT}", f"-rss_limit_mb={_MEGABYTES}", f"-artifact_prefix={folder}/fuzz-{name}-"),
            ],
            stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", check=False,
        )  # fmt: skip
    violations = [line.removeprefix(_VIOLATION) for line in ended.stdout.splitlines() if line.startswith(_VIOLATION)]
    executed, covered = _EXECUTED.findall(ended.stderr), _COVERED.findall(ended.stderr)
    fine = bool(executed) and (ended.returncode == 0 or len(violations) >= _MOST)
    return Guided(
        int(executed[-1]) if executed else 0,
        int(covered[-1][0]) if covered else 0,
        int(covered[-1][2]) if covered else 0,
        violations,
        "" if fine else f"the process ended with {ended.returncode}: {ended.stderr[-2000:]}",
    )


def _fuzz(name: str, slowest: float, folder: Path, corpus: Path, options: list[str]) -> None:
    """What the other Python does; it does not come back."""
    import atheris

    with atheris.instrument_imports(include=["lazyckpt"]):
        import fuzz
    from fuzzing.mutation import CHANGES, LARGEST_SEED, damaged
    from fuzzing.running import Job, judge, keep
    from fuzzing.target import Seed

    job = Job(name, fuzz.TARGETS[name], 0, folder, slowest)
    seeds = job.target.seeds()
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed.data)
    found: list[str] = []

    def read(mutant: bytes) -> None:
        _, fault, _ = judge(job.target, mutant, slowest)
        if fault and fault not in found:
            found.append(fault)
            print(f"{_VIOLATION}{keep(job, f'guided-{len(found)}', mutant)}: {fault}", flush=True)
            if len(found) == _MOST:
                raise SystemExit(1)

    def mutated(data: bytes, most: int, number: int) -> bytes:
        pick = random.Random(number)
        if pick.random() < 0.5:
            return atheris.Mutate(data, most)
        return damaged(Seed(data, []), pick, job.target.changes or CHANGES, seeds)[:most]

    longest = max(2 * max(len(seed.data) for seed in seeds), 4096)
    arguments = [sys.argv[0], str(corpus), f"-max_len={min(longest, LARGEST_SEED)}", *options]
    atheris.Setup(arguments, read, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    sys.path.remove(str(Path(__file__).parent))  # its names are not those of packages
    target, limit, here, kept_in, *libfuzzer = sys.argv[1:]
    _fuzz(target, float(limit), Path(here), Path(kept_in), libfuzzer)
