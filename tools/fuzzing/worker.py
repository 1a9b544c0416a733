"""The process in which coverage guides mutants, started by `guided`.

Half of the mutants are made by libFuzzer, half by the target's own changes. Each is judged by `running.judge`.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

VIOLATION = "violation: "  # how a line of the output begins that reports one
MOST = 10  # violations


def _fuzz(name: str, slowest: float, folder: Path, corpus: Path, options: list[str]) -> None:
    """Fuzz a target; libFuzzer ends the process, so this never returns."""
    import atheris

    with atheris.instrument_imports(include=["lazyckpt"]):
        from fuzzing.targets import TARGETS
    from fuzzing.mutation import CHANGES, LARGEST_SEED, damaged
    from fuzzing.running import Job, judge, keep
    from fuzzing.target import Seed

    job = Job(name, TARGETS[name], 0, folder, slowest)
    seeds = job.target.seeds()
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed.data)
    found: list[str] = []

    def read(mutant: bytes) -> None:
        _, fault, _ = judge(job.target, mutant, slowest)
        if fault and fault not in found:
            found.append(fault)
            print(f"{VIOLATION}{keep(job, f'guided-{len(found)}', mutant)}: {fault}", flush=True)
            if len(found) == MOST:
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
