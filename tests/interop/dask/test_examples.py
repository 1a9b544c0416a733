"""examples/index_job.py and index_job.slurm: a folder is indexed by dask; the script starts the cluster itself.

The script runs with and without a real Slurm.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from checkpoints import two_in_runs
from example_runs import run

JOBS = {
    "python": [sys.executable, "index_job.py"],
    "bash": ["bash", "index_job.slurm"],
}


@pytest.fixture
def folder(tmp_path):
    """A folder with two checkpoints in `runs`, and the jobs' remains outside of it."""
    return two_in_runs(tmp_path)


@pytest.fixture(params=[*JOBS, "sbatch"])
def job(request):
    """Indexes `runs` in a folder; returns the exit code and the error output."""

    def here(folder):
        code, _, complaints = run(JOBS[request.param], "runs", folder=folder)
        return code, complaints

    if request.param in JOBS:
        return here
    slurm = request.getfixturevalue("slurm")
    return lambda folder: slurm.submit("index_job.slurm", "runs", folder=folder)


@pytest.fixture
def temporary(tmp_path_factory, monkeypatch):
    """The folder for temporary files of started processes."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def names(folder):
    """The names of all files in a folder and below it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_folder_is_indexed_and_nothing_else_is_left(job, folder, temporary):
    """Both files get an index, no worker is killed, and only dask's folder of locks stays."""
    code, complaints = job(folder)

    assert code == 0, complaints
    assert "Killed" not in complaints
    assert names(folder) == ["runs", *(f"runs/{name}.ckpt{end}" for name in "ab" for end in ("", ".lmdb"))]
    assert {path.name for path in temporary.iterdir()} <= {"dask-scratch-space"}


def test_a_file_that_is_not_a_checkpoint_is_reported_and_the_rest_is_done(job, folder):
    """The exit code is 1, with the file's name; the other files have their index."""
    (folder / "runs" / "bad.ckpt").write_bytes(b"\xff" * 50)
    code, complaints = job(folder)

    assert code == 1
    assert "bad.ckpt: " in complaints
    assert (folder / "runs" / "b.ckpt.lmdb").exists()


def test_a_job_whose_workers_do_not_start_ends(folder):
    """If its workers do not start, the job ends at once with exit code 1."""
    programs = folder / "programs"
    programs.mkdir()
    (programs / "dask").write_text(f'#!/bin/sh\n[ "$1" = worker ] && exit 3\nexec {sys.executable} -m dask "$@"\n')
    (programs / "dask").chmod(0o755)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    code, _, complaints = run(JOBS["bash"], "runs", folder=folder, PATH=path)

    assert code == 1
    assert "the workers ended before the index was done" in complaints


def test_a_cluster_that_runs_already_is_used(folder, cluster):
    """The job uses the cluster whose scheduler wrote the file."""
    (folder / "scheduler.json").write_text(json.dumps({"type": "Scheduler", "address": cluster.scheduler_address}))
    code, printed, complaints = run(
        JOBS["python"], "runs", "--scheduler-file", folder / "scheduler.json", folder=folder
    )

    assert code == 0, complaints
    assert printed.splitlines()[-1] == "2 files, 2 with an index, 0 without"


def test_without_a_folder_it_makes_one_with_a_file_that_is_none(tmp_path):
    """Six files are indexed, the seventh is reported, and nothing is left."""
    code, printed, complaints = run(JOBS["python"], folder=tmp_path)

    assert code == 1
    assert printed.splitlines()[-1] == "7 files, 6 with an index, 1 without"
    assert "unfinished.ckpt: " in complaints
    assert list(tmp_path.iterdir()) == []
