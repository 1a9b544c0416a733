"""Statistics by tasks: the same numbers, rows and errors as in one process."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from checkpoints import LAYERS, MIXED, checkpoint, varint
from encryption import KEY, encrypted
from measured_values import VALUES
from safetensors_files import file_of

import lazyckpt
from lazyckpt.errors import ChangedFile
from lazyckpt.index.batch import processes
from lazyckpt.statistics import spread
from lazyckpt.statistics.moments import SPAN

LARGE = 2**29 + 2**23  # bytes of a value that is measured in nine spans


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A file with a large value between small ones; most of it is a hole."""
    path = tmp_path_factory.mktemp("large") / "net.ckpt"
    noise = np.random.default_rng(3).standard_normal(2**22).astype("float32")
    small = checkpoint({f"w{number}": noise[number : number + 1000] for number in range(5)})
    head, dims = b"\x12\x07Float32\x1a" + varint(LARGE), b"\x08" + varint(LARGE // 4)
    inner = varint(len(dims + head) + LARGE)
    outer = b"\x0a\x01x\x12" + inner + dims + head
    with open(path, "wb") as file:
        file.write(small + b"\x0a" + varint(len(outer) + LARGE) + outer)
        start = file.tell()
        for number in range(20):
            file.seek(start + number * LARGE // 20 // 4 * 4)
            file.write(noise[: 10_000 + number] * 10.0 ** (number - 9))
        file.truncate(start + LARGE)
    return str(path)


def threads():
    """Two threads."""
    return ThreadPoolExecutor(2)


@pytest.mark.parametrize("workers", [threads, lambda: processes(2)], ids=["threads", "processes"])
def test_workers_give_the_numbers_of_one_process(workers, large, tmp_path):
    """Results are equal to the last bit, because large values are cut where one process merges."""
    heard = []
    with lazyckpt.load_checkpoint(large, index=tmp_path / "my.lmdb") as ckpt, workers() as executor:
        here = ckpt.stats()
        spread = ckpt.stats(scheduler=executor, progress=lambda *counts: heard.append(counts))

        assert list(spread) == list(here)
        assert (len(heard), heard[-1]) == (10, (heard[-1][1], heard[-1][1]))


@pytest.mark.parametrize("changed", [False, True], ids=["as it is", "changed"])
def test_workers_measure_every_kind_of_value(changed, open_values):
    """Maps, strings, empty values, edits, views and another order give the table of one process."""
    with open_values({**MIXED, **VALUES}) as ckpt, processes(2) as executor:
        names = [name for name in reversed(ckpt) if name != "step"]
        if changed:
            ckpt["a"].set_data(np.ones((2, 2)))
            ckpt["conv1.bias"] = np.zeros(3)
            ckpt["new"] = [np.arange(3), np.ones(3), np.arange(3)]
            del ckpt["b"]
            names.remove("b")
        tables = [
            (view.stats(chosen), view.stats(chosen, scheduler=executor))
            for view, chosen in ((ckpt, None), (ckpt, names), (ckpt.select("conv"), None))
        ]

    assert [str(spread) for _, spread in tables] == [str(here) for here, _ in tables]
    assert [[row.moments for row in spread] for _, spread in tables] == [
        [row.moments for row in here] for here, _ in tables
    ]


def test_threads_measure_what_cannot_be_sent(tmp_path):
    """With a literal key, or with bytes in memory, threads of this process do the work."""
    (tmp_path / "net.ckpt").write_bytes(encrypted(checkpoint(LAYERS)))
    with lazyckpt.load_checkpoint(str(tmp_path / "net.ckpt"), dec_key=KEY) as ckpt, threads() as executor:
        assert list(ckpt.stats(scheduler=executor)) == list(ckpt.stats())
    with lazyckpt.load_checkpoint(io.BytesIO(file_of(LAYERS)), format="safetensors") as ckpt, threads() as executor:
        assert list(ckpt.stats(scheduler=executor)) == list(ckpt.stats())


def test_a_fault_of_the_file_is_reported_by_workers_too(open_values, tmp_path):
    """A damaged file ends the run, as in one process."""
    with open_values(LAYERS) as ckpt, processes(1) as executor:
        os.utime(tmp_path / "net.ckpt", (5, 5))
        with pytest.raises(ChangedFile):
            ckpt.stats(scheduler=executor)


class Recorder(ThreadPoolExecutor):
    """An executor with one thread that records places and spans of each task."""

    def __init__(self):
        super().__init__(1)
        self.tasks = []

    def submit(self, task, /, *arguments):
        """Record the task's subject."""
        self.tasks.append(arguments[-2:])
        return super().submit(task, *arguments)


def test_small_values_share_a_task(open_values, monkeypatch):
    """Small values share tasks, up to a limit, in file order; strings are in none."""
    values = {f"w{number}": np.ones(size) for number, size in enumerate([100, 100, 100, 900, *[1] * 7])}
    monkeypatch.setattr(spread, "BATCH_BYTES", 2400)
    monkeypatch.setattr(spread, "_MOST", 5)
    with open_values({**values, "note": "text"}) as ckpt, Recorder() as executor:
        ckpt.stats(list(reversed(ckpt)), scheduler=executor)

    assert executor.tasks == [((0, 1, 2), None), ((3,), None), ((4, 5, 6, 7, 8), None), ((9, 10), None)]


def test_a_large_value_is_cut_where_one_process_puts_its_parts_together(large, tmp_path):
    """A large value takes a task for each span, beside one for the small values."""
    with lazyckpt.load_checkpoint(large, index=tmp_path / "my.lmdb") as ckpt, Recorder() as executor:
        ckpt.stats(scheduler=executor)

    assert executor.tasks == [*[((5,), first) for first in range(0, 9 * SPAN, SPAN)], ((0, 1, 2, 3, 4), None)]
