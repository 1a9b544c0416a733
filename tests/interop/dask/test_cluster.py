"""With a real dask cluster: workers build indexes, statistics and comparisons, and some of them die.

Run where distributed is installed: `python -m pytest tests/interop/dask`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from checkpoints import LAYERS, MIXED, checkpoint, counting, varint
from distributed import KilledWorker
from encryption import KEY, MODES, encrypted

import lazyckpt
from lazyckpt import KeyReference, build_indexes
from lazyckpt.errors import NotPicklable, WorkerDied
from lazyckpt.tasks import is_client, run

ROOT = Path(__file__).parents[3]
GIB = 2**30


def written(folder, data, name="net.ckpt"):
    """The path of a new file."""
    path = folder / name
    path.write_bytes(data)
    return str(path)


def outcomes(results):
    """The result for each file, without the time it took."""
    return [(result.path, bool(result.error), result.sidecar, result.parameters, result.fresh) for result in results]


def workers(client):
    """The process ids of the workers."""
    return sorted(client.run(os.getpid).values())


def square(number):
    """A task."""
    return number * number


def fail(number):
    """A task that fails."""
    raise ZeroDivisionError(number)


def square_or_die(number, deadly):
    """A task that kills its worker for one of these numbers."""
    if number in deadly:
        os._exit(1)
    return number * number


# Indexes


@pytest.fixture
def tree(tmp_path):
    """200 checkpoints, three of them broken in different ways: all paths, and the broken ones."""
    paths = []
    for number in range(200):
        data = checkpoint({f"{name}.{number}": value for name, value in MIXED.items()})
        paths.append(written(tmp_path, data, f"{number:03}.ckpt"))
    broken = [paths[3], paths[77], paths[199]]
    os.truncate(broken[0], 100)
    Path(broken[1]).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    os.remove(broken[2])
    return paths, broken


def test_a_tree_is_indexed_and_broken_files_are_reported(tree, client):
    """Of 200 files 197 get sidecars and 3 errors at the end, and no worker dies."""
    paths, broken = tree
    before = workers(client)
    heard = []
    results = build_indexes(paths, executor=client, progress=heard.append)

    assert [result.path for result in results] == paths
    assert [result.path for result in results if result.error] == broken
    assert [os.path.exists(f"{path}.lmdb") for path in paths] == [path not in broken for path in paths]
    assert sorted(heard) == sorted(results)
    assert workers(client) == before


def test_a_run_that_was_stopped_is_started_again(tree, client):
    """Existing indexes are kept; the rest is built."""
    paths, broken = tree
    build_indexes(paths[:100])
    results = build_indexes(paths, executor=client)

    assert [result.fresh for result in results[:100]] == [path not in broken for path in paths[:100]]
    assert not any(result.fresh for result in results[100:])
    assert outcomes(build_indexes(paths)) == outcomes(build_indexes(paths, executor=client))


def test_paths_are_those_of_the_folder_of_the_caller(tmp_path, client, monkeypatch):
    """Workers run in another folder; results have the paths that the caller gave."""
    written(tmp_path, checkpoint(LAYERS), "a.ckpt")
    monkeypatch.chdir(tmp_path)
    (result,) = build_indexes(["a.ckpt"], executor=client)

    assert outcomes([result]) == [("a.ckpt", False, f"{tmp_path}/a.ckpt.lmdb", len(LAYERS), False)]


@pytest.mark.parametrize("mode", MODES)
def test_encrypted_files_are_indexed_with_the_key_at_its_place(mode, tmp_path, client, monkeypatch):
    """Workers read the key's file; if they cannot, the file's error says what is missing."""
    path = written(tmp_path, encrypted(checkpoint(LAYERS), mode))
    written(tmp_path, KEY, "right.key")
    monkeypatch.chdir(tmp_path)
    (failed,) = build_indexes([path], executor=client)
    (built,) = build_indexes([path], executor=client, key=KeyReference(file="right.key"))

    assert "encrypted" in failed.error
    assert (built.error, built.parameters) == ("", len(LAYERS))


def test_a_worker_that_is_killed_costs_nothing(tmp_path, client):
    """If a worker is killed during a run, others do its tasks, and the run completes."""
    values = {f"layer.{number}.weight": counting((2,)) for number in range(20_000)}
    data = checkpoint(values)
    paths = [written(tmp_path, data, f"{number}.ckpt") for number in range(24)]
    before = workers(client)

    def kill(result):
        if not killed:
            killed.append(os.kill(before[0], signal.SIGKILL))

    killed = []
    results = build_indexes(paths, executor=client, progress=kill)

    assert killed
    assert [(result.error, result.parameters) for result in results] == [("", 20_000)] * 24
    assert before[0] not in workers(client)


# Tasks


def test_outcomes_come_from_workers(client):
    """Each call's value or error comes under its number."""
    good = {outcome.number: outcome.result() for outcome in run(square, [(n,) for n in range(50)], client)}
    bad = list(run(fail, [(1,)], client))

    assert good == {number: number**2 for number in range(50)}
    assert [type(outcome.fault) for outcome in bad] == [ZeroDivisionError]


def test_only_what_kills_its_worker_by_itself_is_given_up(client):
    """Other tasks that were repeatedly on the same workers are not given up."""
    outcomes = sorted(run(square_or_die, [(number, (5,)) for number in range(30)], client))
    dead = outcomes.pop(5)

    assert [outcome.value for outcome in outcomes] == [number**2 for number in range(30) if number != 5]
    assert (dead.number, dead.died, type(dead.fault)) == (5, True, KilledWorker)
    with pytest.raises(WorkerDied, match="out of memory"):
        dead.result()


def test_what_is_not_wanted_any_more_is_cancelled(client):
    """Closing the iterator leaves nothing on the scheduler."""
    outcomes = run(square, [(number,) for number in range(500)], client, [f"file {number}" for number in range(500)])
    next(outcomes)
    outcomes.close()

    deadline = time.monotonic() + 30
    while client.futures and time.monotonic() < deadline:  # the release is reported in the background
        time.sleep(0.05)

    assert client.futures == {}


def test_a_client_is_known_by_its_class(client):
    """No other object is recognized as a client."""
    assert is_client(client)
    assert not is_client(client.cluster)
    assert is_client(type("MyClient", (type(client),), {}).__new__(type(client)))


# Statistics and comparisons


@pytest.fixture(scope="module")
def four_gib(tmp_path_factory):
    """4 GiB in 17 values, one of them of 2 GiB: holes, with 8 MiB of numbers in each."""
    path = tmp_path_factory.mktemp("large") / "large.ckpt"
    noise = np.random.default_rng(8).standard_normal(2**21 + 2**10, np.float32)
    with open(path, "wb") as file:
        for number, size in enumerate([2 * GIB, *[GIB // 8] * 16]):
            file.write(head(f"layer.{number}.weight", size // 4))
            start = file.tell()
            file.seek(start + (number * 999_999 * 4) % (size - 2**23))
            file.write(noise[number : number + 2**21].tobytes())
            file.seek(start + size)
        file.truncate(file.tell())
    return str(path)


def head(name, elements):
    """The header of a one-dimensional float32 value, whose content is not written with it."""
    content = 4 * elements
    inner = b"\x08" + varint(elements) + b"\x12\x07Float32\x1a" + varint(content)
    tag = name.encode()
    outer = b"\x0a" + varint(len(tag)) + tag + b"\x12" + varint(len(inner) + content) + inner
    return b"\x0a" + varint(len(outer) + content) + outer


def test_statistics_of_four_gib_are_those_of_one_process(four_gib, client):
    """The numbers are equal to the last bit, for a large value read by several workers and for others."""
    with lazyckpt.load_checkpoint(four_gib) as ckpt:
        done = []
        spread = ckpt.stats(scheduler=client, progress=lambda *counts: done.append(counts))
        here = ckpt.stats()
        alone = ckpt.stats(["layer.0.weight"], scheduler=client)

    assert list(spread) == list(here)
    assert list(alone) == [here["layer.0.weight"]]
    assert min(row.moments.high for row in here) > 3
    assert done[-1][0] == done[-1][1] == 4 * GIB
    assert len(done) > 40


def test_statistics_of_every_kind_of_value(tmp_path, client):
    """Maps, strings, values edited in memory and views give the same table as without workers."""
    with lazyckpt.load_checkpoint(written(tmp_path, checkpoint(MIXED))) as ckpt:
        ckpt["fc.weight"].set_data(np.ones(3))
        ckpt["new"] = counting((2, 2))
        del ckpt["mask"]
        tables = [(view.stats(), view.stats(scheduler=client)) for view in (ckpt, ckpt.select("conv"))]

    assert [list(spread) for _, spread in tables] == [list(here) for here, _ in tables]


@pytest.mark.parametrize("mode", MODES)
def test_statistics_of_encrypted_values(mode, tmp_path, client):
    """Workers need a key that they can find; otherwise the error says how to provide one."""
    path = written(tmp_path, encrypted(checkpoint(LAYERS), mode, block=3000))
    reference = KeyReference(file=written(tmp_path, KEY, "right.key"))
    with lazyckpt.load_checkpoint(path, dec_key=reference, dec_mode=mode) as ckpt:
        assert list(ckpt.stats(scheduler=client)) == list(ckpt.stats())
    with (
        lazyckpt.load_checkpoint(path, dec_key=KEY, dec_mode=mode) as ckpt,
        pytest.raises(NotPicklable, match="KeyReference"),
    ):
        ckpt.stats(scheduler=client)


def test_comparisons_are_those_of_one_process(tmp_path, client):
    """Values that differ, are equal, on one side only, renamed or edited give one report."""
    rng = np.random.default_rng(1)
    one = {**MIXED, **{f"w{number}": rng.standard_normal((100, 999)) for number in range(20)}}
    two = {**one, "w3": one["w3"] + 1e-9, "step": np.array(5), "note": "other", "more": counting((3,))}
    two["renamed"] = two.pop("w7")
    paths = [written(tmp_path, checkpoint(values), f"{name}.ckpt") for name, values in (("a", one), ("b", two))]
    with lazyckpt.load_checkpoint(paths[1]) as edited:
        edited["w9"].set_data(np.zeros((100, 999)))
        reports = [
            (lazyckpt.diff(paths[0], other), lazyckpt.diff(paths[0], other, scheduler=client))
            for other in (paths[1], edited)
        ]

    assert [spread.to_dict() for _, spread in reports] == [here.to_dict() for here, _ in reports]
    assert not any(here.same for here, _ in reports)


# The command line


@pytest.fixture
def address(cluster):
    """The scheduler's address for other processes."""
    return cluster.scheduler_address


@pytest.mark.parametrize("command", [["tools/build_index.py"], ["-m", "lazyckpt", "index"]])
def test_commands_take_a_scheduler(command, tree, address, tmp_path):
    """Summary and exit code equal those of local processes."""
    _, broken = tree
    done = subprocess.run(
        [sys.executable, *command, tmp_path, "--scheduler", address],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert [path in done.stderr for path in broken[:2]] == [True, True]
    assert len(list(tmp_path.glob("*.lmdb"))) == 197


def test_a_scheduler_that_does_not_answer_is_reported(tmp_path):
    """A missing scheduler is reported in one line, without a traceback."""
    path = written(tmp_path, checkpoint(LAYERS))
    done = subprocess.run(
        [sys.executable, "-m", "lazyckpt", "index", path, "--scheduler", "tcp://127.0.0.1:9"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode != 0
    assert "no dask scheduler answers at tcp://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


# The documentation


def test_the_documentation_is_true(address, tmp_path, monkeypatch):
    """Every block of Python in docs/scale.md runs on this cluster."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CKPT_KEY", f"hex:{KEY.hex()}")
    weight = {"fc1.weight": counting((3000, 40))}
    written(tmp_path, checkpoint({**LAYERS, **weight}))
    written(tmp_path, checkpoint(LAYERS), "before.ckpt")
    written(tmp_path, checkpoint({**LAYERS, "step": np.array(18)}), "after.ckpt")
    written(tmp_path, encrypted(checkpoint(LAYERS)), "secret.ckpt")
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8").replace("tcp://host:8786", address)
    session = {"lazyckpt": lazyckpt, "paths": ["before.ckpt", "none.ckpt"]}
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for block in blocks:
        exec(block, session)

    assert len(blocks) == 4
    assert [result.path for result in session["broken"]] == ["none.ckpt"]
    assert np.array_equal(session["row"], weight["fc1.weight"][3])
    session["ckpt"].close()
    session["secret"].close()
    session["client"].close()
