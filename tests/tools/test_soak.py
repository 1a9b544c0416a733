"""tools/soak.py and tools/crashes.py: short runs, and reports of violations."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lazyckpt

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def soak(monkeypatch):
    """The tool as a module."""
    monkeypatch.syspath_prepend(str(TOOLS))
    import soak

    return soak


@pytest.fixture
def crashes(monkeypatch):
    """The tool as a module."""
    monkeypatch.syspath_prepend(str(TOOLS))
    import crashes

    return crashes


@pytest.fixture
def house(soak, tmp_path):
    """The files of the soak test, each with one generation."""
    (tmp_path / "generations").write_bytes(bytes(1000))
    house = soak.House(tmp_path)
    for file in soak.FILES:
        soak.save(house, file, None)
    yield house
    house.close()


def test_a_few_seconds_of_everything_break_nothing():
    """A run of two processes with two threads finds no violation, and prints one line."""
    command = [sys.executable, str(TOOLS / "soak.py"), "--minutes", "0.05", "--processes", "2", "--threads", "2"]
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.fullmatch(r"\d\.\d minutes, 2 processes of 2 threads: .*\d+ read_\w+.*; 0 wrong\n", ended.stdout)


def test_each_thing_can_be_done_alone(soak, house):
    """Every action runs on every kind of file."""
    for act in {*soak.READING, *soak.WRITING} - {soak.read_in_child, soak.damage_index}:
        for file in soak.FILES:
            act(house, file, random.Random(1))


def test_a_value_of_another_generation_is_found_out(soak, house):
    """An old file, a value of another generation and a wrong shape are violations."""
    file = soak.FILES[0]
    lazyckpt.save_checkpoint(soak.values(7), str(house.path(file)))
    with pytest.raises(soak.Violation, match="generation 7, not 1 to 1"), house.opened(file):
        pass
    for value in (np.full((300, 300), 1.0), np.full((300, 299), 2.0)):
        with pytest.raises(soak.Violation):
            soak.check("large", value, 2)


def test_what_a_crash_leaves_is_judged(crashes, tmp_path):
    """Mixed or unknown generations, unreadable files and other exit codes are violations."""
    task = crashes.TASKS["save"]
    judged = []
    for generation in (0, 1, 2):
        crashes.save("net.ckpt", generation)(tmp_path)
        judged.append(crashes._judged(task, tmp_path, -9))
    mixed = crashes.values(0) | {"step": np.float32(1).reshape(())}
    lazyckpt.save_checkpoint(mixed, str(tmp_path / "net.ckpt"))
    judged.append(crashes._judged(task, tmp_path, -9))
    (tmp_path / "net.ckpt").chmod(0o600)
    (tmp_path / "net.ckpt").write_bytes(b"half")
    judged += [crashes._judged(task, tmp_path, -9), crashes._judged(task, tmp_path, 1)]

    assert judged[:2] == ["", ""]
    told = [re.search(r"of generation 2|several generations|ended with 1", text) for text in judged[2:]]
    assert [found and found[0] for found in told] == ["of generation 2", "several generations", None, "ended with 1"]
    assert "does not open" in judged[4]
