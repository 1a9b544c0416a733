"""examples/index_job.py and index_job.slurm: a folder is indexed by dask; the script starts the cluster itself."""

from __future__ import annotations

import json
import sys

import pytest
from checkpoints import two_in_runs
from example_runs import run

JOBS = {
    "python": [sys.executable, "index_job.py"],
    "slurm": ["bash", "index_job.slurm"],
}


@pytest.fixture
def folder(tmp_path):
    """A folder with two checkpoints of `runs`, and what the jobs leave outside of it."""
    return two_in_runs(tmp_path)


def names(folder):
    """What is in a folder and those in it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("job", JOBS)
def test_a_folder_is_indexed_and_nothing_else_is_left(job, folder):
    """Both files have an index; what the cluster needed is gone."""
    code, _, complaints = run(JOBS[job], "runs", folder=folder)

    assert code == 0, complaints
    assert names(folder) == ["runs", *(f"runs/{name}.ckpt{end}" for name in "ab" for end in ("", ".lmdb"))]


@pytest.mark.parametrize("job", JOBS)
def test_a_file_that_is_none_is_told_and_the_rest_is_done(job, folder):
    """Exit code 1, with the file's name; the others have their index."""
    (folder / "runs" / "bad.ckpt").write_bytes(b"\xff" * 50)
    code, _, complaints = run(JOBS[job], "runs", folder=folder)

    assert code == 1
    assert "bad.ckpt: " in complaints
    assert (folder / "runs" / "b.ckpt.lmdb").exists()


def test_a_cluster_that_runs_already_is_used(folder, cluster):
    """The one whose scheduler wrote the file."""
    (folder / "scheduler.json").write_text(json.dumps({"type": "Scheduler", "address": cluster.scheduler_address}))
    code, printed, complaints = run(
        JOBS["python"], "runs", "--scheduler-file", folder / "scheduler.json", folder=folder
    )

    assert code == 0, complaints
    assert printed.splitlines()[-1] == "2 files, 2 with an index, 0 without"


def test_without_a_folder_it_makes_one_with_a_file_that_is_none(tmp_path):
    """Six are indexed, the seventh is told, and nothing is left."""
    code, printed, complaints = run(JOBS["python"], folder=tmp_path)

    assert code == 1
    assert printed.splitlines()[-1] == "7 files, 6 with an index, 1 without"
    assert "unfinished.ckpt: " in complaints
    assert list(tmp_path.iterdir()) == []
