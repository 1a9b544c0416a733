"""Indexes of many checkpoints: one task per file, so that an error affects only its own file."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from checkpoints import LAYERS, MIXED, checkpoint

from lazyckpt.errors import MissingFile
from lazyckpt.index.batch import Built, build_indexes, find_checkpoints, processes


@pytest.fixture
def files(tmp_path):
    """Three checkpoints, the second of them damaged."""
    contents = {"a.ckpt": checkpoint(MIXED), "b.ckpt": checkpoint(MIXED)[:-3], "c.ckpt": checkpoint(LAYERS)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return [str(tmp_path / name) for name in contents]


def outcomes(results):
    """The result for each file, without the time it took."""
    return [(result.path, bool(result.error), result.sidecar, result.parameters, result.fresh) for result in results]


def expected(files, fresh=False):
    """The expected results for the three checkpoints."""
    a, b, c = files
    return [
        (a, False, f"{a}.lmdb", len(MIXED), fresh),
        (b, True, None, 0, False),
        (c, False, f"{c}.lmdb", len(LAYERS), fresh),
    ]


def test_every_file_has_a_result_in_its_place(files):
    """Results come in the order of the paths, the damaged file's with its error and the others with an index."""
    assert outcomes(build_indexes(files)) == expected(files)


def test_fresh_indexes_are_left_alone(files):
    """A stopped run can be repeated: existing indexes are found, unless `force` is set."""
    build_indexes(files)
    before = os.stat(f"{files[0]}.lmdb")

    assert outcomes(build_indexes(files)) == expected(files, fresh=True)
    assert os.stat(f"{files[0]}.lmdb") == before
    assert outcomes(build_indexes(files, force=True)) == expected(files)


def test_any_executor_will_do(files):
    """Threads and processes give the same results in the same order."""
    with ThreadPoolExecutor(2) as threads, processes(2) as workers:
        results = [outcomes(build_indexes(files, executor=executor, force=True)) for executor in (threads, workers)]

    assert results == [expected(files)] * 2


class DyingExecutor(ThreadPoolExecutor):
    """An executor whose worker dies with its first task."""

    def submit(self, task, /, *arguments):
        """Return a broken future for the first file."""
        if not arguments[0].endswith("a.ckpt"):
            return super().submit(task, *arguments)
        broken = Future()
        broken.set_exception(MemoryError("killed"))
        return broken


def test_a_worker_that_dies_takes_only_its_own_file_with_it(files):
    """Only the file of the dead worker gets an error, with the reason."""
    with DyingExecutor(1) as executor:
        first, *others = build_indexes(files, executor=executor)

    assert first == Built(files[0], "MemoryError: killed", None, 0, 0, 0.0)
    assert outcomes(others) == expected(files)[1:]


def test_a_process_that_is_killed_costs_nothing(tmp_path):
    """If a process is killed during a run, others index its files, and no file gets an error."""
    data = checkpoint({f"layer.{number}.weight": LAYERS["step"] for number in range(5000)})
    paths = [tmp_path / f"{number:02}.ckpt" for number in range(20)]
    for path in paths:
        path.write_bytes(data)

    def kill(result):
        if not killed:
            killed.append(os.kill(next(iter(workers._processes)), signal.SIGKILL))

    killed = []
    with processes(2) as workers:
        results = build_indexes(paths, executor=workers, progress=kill)

    assert killed
    assert [(result.path, result.error, result.parameters) for result in results] == [
        (str(path), "", 5000) for path in paths
    ]


def test_progress_hears_of_every_result(files):
    """Each result is reported once, as it comes."""
    heard = []
    results = build_indexes(files, progress=heard.append)

    assert heard == results


def test_an_error_says_what_is_wrong_without_the_path(files):
    """The path has a field of its own and is not repeated in the error."""
    (missing,) = build_indexes([f"{files[0]}.none.ckpt"])
    (damaged,) = build_indexes(files[1:2])

    assert "does not exist" in missing.error
    assert "whole parameters" in damaged.error
    assert files[1] not in damaged.error


def test_paths_may_be_path_objects(tmp_path):
    """Any path object is accepted and reported as text."""
    (tmp_path / "a.ckpt").write_bytes(checkpoint(LAYERS))
    (result,) = build_indexes([tmp_path / "a.ckpt"])

    assert outcomes([result]) == [(f"{tmp_path}/a.ckpt", False, f"{tmp_path}/a.ckpt.lmdb", len(LAYERS), False)]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder with checkpoints at several depths, one with a pattern as its name; the current folder."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "last.ckpt",
        "runs/1/a.ckpt",
        "runs/2/b.ckpt",
        "runs/2/b.ckpt.lmdb",
        "runs/2/notes.txt",
        "odd[1]/c.ckpt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["last.ckpt"], ["last.ckpt"]),
        (["runs"], ["runs/1/a.ckpt", "runs/2/b.ckpt"]),
        (["runs/"], ["runs/1/a.ckpt", "runs/2/b.ckpt"]),
        (["runs/*/*.ckpt"], ["runs/1/a.ckpt", "runs/2/b.ckpt"]),
        (["runs/**/b.ckpt"], ["runs/2/b.ckpt"]),
        (["last.ckpt", "runs/2", "runs"], ["last.ckpt", "runs/2/b.ckpt", "runs/1/a.ckpt"]),
        (["odd[1]"], ["odd[1]/c.ckpt"]),
        (["runs/2/notes.txt"], ["runs/2/notes.txt"]),
    ],
)  # fmt: skip
def test_checkpoints_are_found_by_path_folder_and_pattern(patterns, found, tree):
    """Checkpoints come in the order of the arguments, sorted within each, each file once."""
    assert find_checkpoints(patterns) == found


@pytest.mark.parametrize("pattern", ["none.ckpt", "runs/*.ckpt", "odd[1]/none"])
def test_a_pattern_that_names_no_checkpoint_is_refused(pattern, tree):
    """A pattern without a match raises an error, not an empty list."""
    with pytest.raises(MissingFile, match="no checkpoint at"):
        find_checkpoints(["last.ckpt", pattern])
