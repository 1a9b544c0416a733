"""tools/build_index.py: build the indexes of many checkpoints from a job script."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import LAYERS, MIXED, two_in_runs

TOOL = Path(__file__).parents[2] / "tools" / "build_index.py"


@pytest.fixture
def folder(tmp_path):
    """A folder with two checkpoints."""
    return two_in_runs(tmp_path)


def run(folder, *arguments):
    """Run the tool in a folder; returns the exit code, stdout and stderr."""
    ended = subprocess.run(
        [sys.executable, str(TOOL), *arguments], cwd=folder, capture_output=True, encoding="utf-8", check=False
    )
    return ended.returncode, ended.stdout, ended.stderr


def test_a_folder_is_indexed_and_a_second_run_has_nothing_to_do(folder):
    """The summary counts built and fresh indexes, and a second run builds none."""
    first, second = run(folder, "runs", "--jobs", "2"), run(folder, "runs")

    assert first[0::2] == second[0::2] == (0, "")
    assert first[1].startswith(f"2 files, 2 built, 0 fresh, 0 failed, {len(MIXED) + len(LAYERS)} parameters, ")
    assert second[1].startswith(f"2 files, 0 built, 2 fresh, 0 failed, {len(MIXED) + len(LAYERS)} parameters, ")


def test_failures_are_told_and_the_rest_is_done(folder):
    """A damaged file causes exit code 1 and a line on stderr; the other files are indexed."""
    (folder / "runs" / "bad.ckpt").write_bytes(b"\xff" * 50)
    code, printed, complaints = run(folder, "runs", "--quiet")

    assert (code, printed) == (1, "")
    assert complaints.startswith("runs/bad.ckpt: ")
    assert complaints.count("\n") == 1
    assert (folder / "runs" / "b.ckpt.lmdb").exists()


def test_json_has_the_summary_and_every_file(folder):
    """The JSON has the counts of the summary, and an object for each file."""
    code, printed, _ = run(folder, "runs/*.ckpt", "--json", "--force")
    told = json.loads(printed)

    assert (code, told["files"], told["built"], told["failed"]) == (0, 2, 2, 0)
    assert [result["path"] for result in told["results"]] == ["runs/a.ckpt", "runs/b.ckpt"]


@pytest.mark.parametrize("arguments", [["none"], [], ["runs", "--jobs", "0"], ["runs", "--what"]], ids=str)
def test_a_wrong_command_is_told_apart_from_a_wrong_file(arguments, folder):
    """No files to index, or an invalid option, gives exit code 2 and a message."""
    code, printed, complaints = run(folder, *arguments)

    assert (code, printed) == (2, "")
    assert complaints
