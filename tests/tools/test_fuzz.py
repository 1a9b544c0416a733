"""tools/fuzz.py: short runs of every target, and reports of violations."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "fuzz.py"
TARGETS = (
    *("walker", "writing", "records", "safetensors", "encrypted", "loading", "strategies", "group_infos", "listings"),
    *("references", "commands", "sidecars", "slices"),
)
COUNTS = {"slices": 60}  # each of them takes 25 slices
# A target whose reader violates the contract in every way. It controls the clock.
BROKEN = """
import sys, types
sys.path.insert(0, {tools!r})
import fuzz
from fuzzing import running
from fuzzing.target import Seed, Target
from lazyckpt.errors import LazyCkptError
now = [0.0]
MUTANTS = [b"fine", b"slow", b"fine", b"wrong", b"no value", b"large", b"more than its bound"]
running.time = types.SimpleNamespace(perf_counter=lambda: now[0], monotonic=lambda: now[0])
def read(data):
    if data == b"slow":
        now[0] += running.SLOWEST + 0.01
    elif data == b"wrong":
        raise KeyError("wrong")
    elif data == b"no value":
        raise LazyCkptError("no value")
    elif data == b"large":
        bytearray(b"x") * (running.MOST_MEMORY + 2**24)
    elif data == b"more than its bound":
        bytearray(b"x") * (running.ROOM + 2**21)
fuzz.TARGETS = {{"broken": Target(lambda: [Seed(b"seed", [])], read, memory=60)}}
running.mutants = lambda seeds, seed, changes: iter(MUTANTS)
sys.exit(fuzz.main(["--target", "broken", "--count", "10", *{options!r}]))
"""


def run(folder, *arguments):
    """Run the tool in a folder; returns the exit code and stdout."""
    command = [sys.executable, str(TOOL), *arguments]
    ended = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=False)
    assert ended.stderr == ""
    return ended.returncode, ended.stdout


def broken(folder, *options):
    """Run the target that violates the contract."""
    program = BROKEN.format(tools=str(TOOL.parent), options=options)
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, encoding="utf-8", check=False
    )


@pytest.fixture
def fuzz(monkeypatch):
    """The tool as a module."""
    monkeypatch.syspath_prepend(str(TOOL.parent))
    import fuzz

    return fuzz


@pytest.fixture
def mutants(fuzz):
    """The function that makes mutants from seeds."""
    from fuzzing.mutation import mutants

    return mutants


@pytest.mark.parametrize("target", TARGETS)
def test_a_few_hundred_mutants_keep_the_contract(target, tmp_path):
    """Every target reads or refuses each mutant, and the tool prints one summary line."""
    count = COUNTS.get(target, 200)
    code, printed = run(tmp_path, "--count", str(count), "--target", target)

    assert (code, list(tmp_path.glob("*.bin"))) == (0, [])
    assert re.fullmatch(
        rf"{target}: {count} mutants \(seed 0\), \d+ read, \d+ refused, 0 violations; slowest [\d.]+ s,"
        r" memory \+\d+ MiB, \d+ s in all\n",
        printed,
    ), printed


def test_every_target_is_run_by_itself(tmp_path):
    """The tool has the targets listed above."""
    assert run(tmp_path, "--list") == (0, "".join(f"{name}\n" for name in TARGETS))


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_are_sound(target, fuzz):
    """A target reads most of its seeds, and their hot offsets lie inside them."""
    seeds = fuzz.TARGETS[target].seeds()
    judged = [fuzz.judge(fuzz.TARGETS[target], seed.data)[:2] for seed in seeds]

    assert judged.count(("read", "")) >= len(seeds) / 2
    assert all(0 <= place < len(seed.data) for seed in seeds for place in seed.hot)


@pytest.mark.parametrize("target", TARGETS)
def test_a_seed_makes_the_same_mutants(target, fuzz, mutants):
    """The same seed makes the same mutants, and another seed makes others."""
    seeds, changes = fuzz.TARGETS[target].seeds(), fuzz.TARGETS[target].changes
    once, again, other = (list(itertools.islice(mutants(seeds, number, changes), 50)) for number in (1, 1, 2))

    assert once == again
    assert once != other


def test_time_ends_a_run(tmp_path):
    """`--seconds` limits the time of a run."""
    code, printed = run(tmp_path, "--seconds", "0.2", "--target", "records", "--seed", "7")

    assert (code, "(seed 7)" in printed) == (0, True)


def test_a_broken_contract_is_told(tmp_path):
    """Each mutant that violates the contract is written to a file, and the exit code is 1."""
    ended = broken(tmp_path)
    found = {path.name: path.read_bytes() for path in tmp_path.glob("*.bin")}

    assert (ended.returncode, ended.stderr) == (1, "")
    assert found == {
        "fuzz-broken-0-1.bin": b"slow",
        "fuzz-broken-0-3.bin": b"wrong",
        "fuzz-broken-0-4.bin": b"no value",
        "fuzz-broken-0-5.bin": b"large",
        "fuzz-broken-0-6.bin": b"more than its bound",
    }
    out = re.sub(r"[\d,]+ bytes", "N bytes", ended.stdout)
    assert re.findall(
        r"bin: (it took [\d.]+ s|KeyError|LazyCkptError is not a ValueError|it took .* of memory)", out
    ) == [
        "it took 1.01 s",
        "KeyError",
        "LazyCkptError is not a ValueError",
        "it took N bytes of memory",
        "it took N bytes of memory",
    ]


def test_how_slow_is_slow_can_be_said(tmp_path):
    """`--slowest` changes the time limit for a mutant."""
    broken(tmp_path, "--slowest", "10")

    assert [path.name for path in tmp_path.glob("*-1.bin")] == []


@pytest.mark.skipif(importlib.util.find_spec("atheris") is not None, reason="there is atheris")
def test_without_atheris_coverage_guides_nothing(tmp_path):
    """`--guided` without atheris prints how to install it."""
    command = [sys.executable, str(TOOL), "--guided", "--seconds", "1", "--target", "walker"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)

    assert (ended.returncode, ended.stderr) == (1, "--guided needs atheris: pip install atheris\n")


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="there is no atheris")
def test_coverage_guides_mutants(tmp_path):
    """The corpus keeps mutants that reach new code, in addition to the seeds."""
    code, printed = run(
        tmp_path, "--guided", "--seconds", "3", "--target", "records", "--corpus", "corpus"
    )  # fmt: skip
    kept = {path.name.partition("-")[0] for path in (tmp_path / "corpus" / "records").iterdir()}

    assert (code, "0 violations" in printed) == (0, True)
    assert len(kept) > 1


def test_what_is_opened_is_heard(fuzz):
    """The audit hook records opened paths, which can be filtered by folder."""
    from fuzzing import watching

    with watching.listening() as heard, open(__file__, "rb"):
        pass

    assert watching.outside(heard.opened, ROOT / "lazyckpt") == [os.path.realpath(__file__)]
    assert (watching.outside(heard.opened, ROOT / "tests"), heard.changed) == ([], set())


def test_what_is_changed_is_heard(fuzz, tmp_path):
    """The audit hook records created, linked, renamed and changed files."""
    from fuzzing import watching

    changes = {
        "written": lambda path: path.write_bytes(b""),
        "made": lambda path: path.mkdir(),
        "linked": lambda path: path.symlink_to("elsewhere"),
    }
    with watching.listening() as heard:
        for name, change in changes.items():
            change(tmp_path / name)
        os.chmod(tmp_path / "made", 0o700)
        os.rename(tmp_path / "written", tmp_path / "renamed")

    assert heard.changed == {str(tmp_path.resolve() / name) for name in (*changes, "renamed")}


def test_a_mutant_is_read_again(tmp_path):
    """`--replay` judges a single file."""
    (tmp_path / "mutant.bin").write_bytes(b"\x0a")

    code, printed = run(tmp_path, "--target", "walker", "--replay", "mutant.bin")

    assert (code, re.sub(r"[\d.]+ s", "0 s", printed)) == (0, "mutant.bin: refused in 0 s\n")
