"""Fuzz the readers with damaged files: each must be read, or refused with an allowed error.

    python tools/fuzz.py --count 100000                  every target, with this many mutants each
    python tools/fuzz.py --seconds 60 --target walker    one target, for this long
    python tools/fuzz.py --seconds 300 --target walker --guided    guided by coverage (needs atheris)
    python tools/fuzz.py --target walker --replay fuzz-walker-0-123.bin

The contract of a target: a mutant yields values, or an error of a kind that the target allows (a `LazyCkptError` that
is a `ValueError`); it takes at most one second (`--slowest`); all mutants together increase the memory of the process
by less than 200 MiB. A mutant of a parser takes at most 8 MiB and 16 or 60 bytes for each of its own, the bounds of
`tools/parser_bounds.py`. A mutant that violates the contract is written to a file, and the exit code is 1. The same
seed makes the same mutants (sidecars hold salts and times, so there only the changes are the same).

A new target is a function that makes its seeds, a function that reads a mutant, and a line in the `TARGETS` of its
module in `fuzzing/`; `fuzzing/targets.py` joins them. Mutants are made by changing a few bytes; most of the places are
taken from a seed's `hot` ones, where lengths and keys are.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from fuzzing import guided
from fuzzing.running import SLOWEST, Job, fuzz, judge
from fuzzing.targets import TARGETS


def main(arguments: list[str] | None = None) -> int:
    """Fuzz, print one line for each target, and return the exit code."""
    asked = _asked(arguments)
    names = asked.target or list(TARGETS)
    if asked.list:
        print(*names, sep="\n")
        return 0
    if asked.replay:
        outcome, fault, took = judge(TARGETS[names[0]], asked.replay.read_bytes(), asked.slowest)
        print(f"{asked.replay}: {outcome} in {took:.3f} s{', ' * bool(fault)}{fault}")
        return 1 if fault else 0
    if asked.guided:
        return max(_guided(name, asked) for name in names)
    broken = 0
    for name in names:
        start = time.perf_counter()
        job = Job(name, TARGETS[name], asked.seed, asked.folder, asked.slowest)
        counts, slowest, grown, violations = fuzz(job, asked.count, asked.seconds)
        print(
            f"{name}: {counts.total():,} mutants (seed {asked.seed}), {counts['read']:,} read,"
            f" {counts['refused']:,} refused, {len(violations)} violations; slowest {slowest:.3f} s,"
            f" memory +{max(0, grown) / 2**20:.0f} MiB, {time.perf_counter() - start:.0f} s in all",
            flush=True,
        )
        for violation in violations:
            print(f"  {violation}")
        broken += len(violations)
    return 1 if broken else 0


def _guided(name: str, asked: argparse.Namespace) -> int:
    ended = guided.run(name, asked.seed, asked.seconds, asked.folder.absolute(), asked.slowest, asked.corpus)
    print(
        f"{name}: {ended.executed:,} mutants guided by coverage in {asked.seconds:.0f} s (seed {asked.seed}),"
        f" {ended.covered:,} code locations reached, {ended.kept:,} kept, {len(ended.violations)} violations",
        flush=True,
    )
    for violation in [*ended.violations, *filter(None, [ended.trouble])]:
        print(f"  {violation}")
    return 1 if ended.violations or ended.trouble else 0


def _asked(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--count", type=int, metavar="N", help="mutants for each target (default 10000)")
    length.add_argument("--seconds", type=float, metavar="N", help="time for each target")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the mutants (default 0)")
    parser.add_argument("--target", action="append", choices=TARGETS, help="what to fuzz (default: everything)")
    parser.add_argument("--folder", type=Path, default=Path(), help="the folder for mutants that violate the contract")
    parser.add_argument(
        "--slowest", type=float, default=SLOWEST, metavar="SECONDS", help="the time limit for a mutant (default 1)"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the targets")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="read this file instead of mutants")
    parser.add_argument(
        "--guided", action="store_true", help="guide mutants by coverage, for --seconds each; needs atheris"
    )
    parser.add_argument(
        "--corpus", type=Path, metavar="DIR", help="for --guided: the folder that keeps mutants between runs"
    )
    asked = parser.parse_args(arguments)
    if asked.guided and asked.seconds is None:
        parser.error("--guided needs --seconds")
    if asked.replay and len(asked.target or []) != 1:
        parser.error("--replay needs one --target")
    if asked.count is None and asked.seconds is None:
        asked.count = 10_000
    return asked


if __name__ == "__main__":
    sys.exit(main())
