"""`Checkpoint.stats` and `Parameter.stats`: what is read, what is told, and the forms that a table takes."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from checkpoints import LAYERS, MIXED, checkpoint, counting, varint
from decryptions import counted
from encryption import KEY, encrypted, split
from opening import opened_and_traced
from rich.console import Console
from safetensors_files import file_of
from tracing import TracingSource, places

import lazyckpt
from lazyckpt.errors import ArgumentValueError, ChangedFile, FolderInTheWay, MissingFolder
from lazyckpt.index.batch import processes
from lazyckpt.statistics.table import COLUMNS, PRINTED

VALUES = {
    "a": np.array([[1, -2], [0, 5]], "float32"),
    "b": np.array([math.nan, math.inf, 0, 2], "float16"),
    "flags": np.array([True, False, True]),
    "empty": np.zeros((0,), "float32"),
}


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
    """To the last bit: a large value is cut where one process puts its parts together."""
    heard = []
    with lazyckpt.load_checkpoint(large, index=tmp_path / "my.lmdb") as ckpt, workers() as executor:
        here = ckpt.stats()
        spread = ckpt.stats(scheduler=executor, progress=lambda *counts: heard.append(counts))

        assert list(spread) == list(here)
        assert (len(heard), heard[-1]) == (10, (heard[-1][1], heard[-1][1]))


@pytest.mark.parametrize("changed", [False, True], ids=["as it is", "changed"])
def test_workers_measure_every_kind_of_value(changed, open_values):
    """Maps, strings, empty ones, edits, views, another order: the table is that of one process."""
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
    """With a key in hand, or of bytes in memory: threads are in this process."""
    (tmp_path / "net.ckpt").write_bytes(encrypted(checkpoint(LAYERS)))
    with lazyckpt.load_checkpoint(str(tmp_path / "net.ckpt"), dec_key=KEY) as ckpt, threads() as executor:
        assert list(ckpt.stats(scheduler=executor)) == list(ckpt.stats())
    with lazyckpt.load_checkpoint(io.BytesIO(file_of(LAYERS)), format="safetensors") as ckpt, threads() as executor:
        assert list(ckpt.stats(scheduler=executor)) == list(ckpt.stats())


def test_a_fault_of_the_file_is_told_by_workers_too(open_values, tmp_path):
    """It ends the run, as it does in one process."""
    with open_values(LAYERS) as ckpt, processes(1) as executor:
        os.utime(tmp_path / "net.ckpt", (5, 5))
        with pytest.raises(ChangedFile):
            ckpt.stats(scheduler=executor)


@pytest.fixture
def open_values(tmp_path):
    """Writes values to a file and opens it."""

    def open_values(values, **how):
        (tmp_path / "net.ckpt").write_bytes(checkpoint(values))
        return lazyckpt.load_checkpoint(str(tmp_path / "net.ckpt"), **how)

    return open_values


def test_every_tensor_has_a_row_in_file_order(open_values):
    """Numbers agree with numpy's."""
    with open_values(LAYERS) as ckpt:
        table = ckpt.stats()

    assert [row.name for row in table] == list(LAYERS)
    assert [row.moments.mean for row in table] == pytest.approx([float(np.mean(v)) for v in LAYERS.values()])
    assert [(row.moments.low, row.moments.high) for row in table] == [(v.min(), v.max()) for v in LAYERS.values()]


@pytest.mark.parametrize("workers", [1, 3])
def test_many_small_values_are_measured_as_each_alone(workers, open_values):
    """Those that are alike are measured together, to the same last bit, whatever stands between them."""
    rng = np.random.default_rng(11)
    many = {f"layer{number}": rng.standard_normal((number % 5 + 1, 7)).astype("float32") for number in range(80)}
    many["layer30"][0, 3], many["layer40"][0, 0], many["layer50"][0] = math.nan, -math.inf, math.nan
    with open_values({**many, **MIXED, **VALUES, "last": np.zeros(9)}) as ckpt:
        table = ckpt.stats(workers=workers)
        alone = [row for name in ckpt if name not in MIXED for row in ckpt[name].stats()]

    assert [str(row) for row in table if row.name.partition("[")[0] not in MIXED] == [str(row) for row in alone]


def test_names_are_answered_in_the_order_that_was_asked_for(open_values):
    """Whatever the order of the file; a name that is not there is told before anything is read."""
    with open_values(LAYERS) as ckpt:
        assert [row.name for row in ckpt.stats(["step", "conv1.bias"])] == ["step", "conv1.bias"]
        with pytest.raises(KeyError):
            ckpt.stats(["step", "no such"])


def test_maps_have_a_row_for_each_array_and_strings_say_why_they_have_no_numbers(open_values):
    """Nothing of a checkpoint is passed over in silence."""
    with open_values(MIXED) as ckpt:
        table = ckpt.stats(["note", "table"])

    assert [(row.name, row.moments.count, row.skipped) for row in table] == [
        ("note", 0, "a string"),
        ("table[keys]", 3, ""),
        ("table[values]", 12, ""),
        ("table[status]", 3, ""),
    ]


def test_values_in_memory_are_measured_as_they_are_now(open_values):
    """Edits count; the file's values do not."""
    with open_values(LAYERS) as ckpt:
        ckpt["step"].set_data(np.array([3.0, 5.0]))
        ckpt["new"] = np.array([7, 9])
        ckpt["what"] = object()
        del ckpt["mask"]
        table = ckpt.stats()

    assert (table["step"].moments.mean, table["new"].moments.mean) == (4.0, 8.0)
    assert table["what"].skipped == "a object"
    assert "mask" not in [row.name for row in table]


def test_a_parameter_tells_its_own(open_values):
    """The same row as in the checkpoint's table, and after `set_data` that of the new value."""
    with open_values(LAYERS) as ckpt:
        parameter = ckpt["fc.weight"]
        assert list(parameter.stats()) == list(ckpt.stats(["fc.weight"]))
        parameter.set_data(np.array([2.0]))
        assert parameter.stats()[0].moments.mean == 2.0


def test_only_what_is_asked_for_is_read():
    """No payload byte of another value is looked at."""
    source = TracingSource(checkpoint(LAYERS))
    ckpt = opened_and_traced(source)
    ckpt.stats(["conv1.bias"])
    others = set().union(*(places(ckpt.entry(name).extents) for name in LAYERS if name != "conv1.bias"))

    assert source.looked_at() & others == set()
    assert places(ckpt.entry("conv1.bias").extents) <= source.looked_at()


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_and_progress_change_no_number(open_values, workers):
    """Progress ends at the whole."""
    values = {f"v{i}": counting((50, 7)) * i for i in range(20)}
    told = []
    with open_values(values) as ckpt:
        table = ckpt.stats(workers=workers, progress=lambda done, total: told.append((done, total)))

    assert [row.moments.norm for row in table] == pytest.approx([float(np.linalg.norm(v)) for v in values.values()])
    assert told[-1] == (20 * 1400, 20 * 1400)
    assert told == sorted(told)


def test_of_an_encrypted_file_each_block_is_decrypted_once(tmp_path, monkeypatch):
    """Values share blocks, and large values take several; the numbers are those of the plain file."""
    values = {f"v{i}": counting((300,)) + i for i in range(20)}
    file = encrypted(checkpoint(values), block=1000)
    (tmp_path / "x.ckpt").write_bytes(file)
    with lazyckpt.load_checkpoint(str(tmp_path / "x.ckpt"), dec_key=KEY) as ckpt:
        seen = counted(monkeypatch)
        table = ckpt.stats()

    assert [row.moments.mean for row in table] == pytest.approx([float(np.mean(v)) for v in values.values()])
    assert len(seen.blocks) == len(set(seen.blocks)) == len(split(file))


BIG = """
import resource, sys, lazyckpt
ckpt = lazyckpt.load_checkpoint(sys.argv[1], index="memory")
ckpt["a"].stats()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
row = ckpt["big"].stats()[0]
print(row.moments.count, row.moments.zeros, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory in KiB, and sparse files")
def test_a_value_of_any_size_takes_a_few_mebibytes(tmp_path):
    """512 MiB of zeros raise the peak by less than 64 MiB, mapped pages counted."""
    size = 2**27
    small = checkpoint({"a": np.ones(3, "float32")})
    shape = checkpoint({"big": np.zeros(1, "float32")})
    from checkpoints import chunk, number, varint

    inner = number(1, size) + chunk(2, b"Float32") + b"\x1a" + varint(4 * size)
    outer = chunk(1, b"big") + b"\x12" + varint(len(inner) + 4 * size) + inner
    path = tmp_path / "big.ckpt"
    path.write_bytes(small + b"\x0a" + varint(len(outer) + 4 * size) + outer)
    os.truncate(path, path.stat().st_size + 4 * size)
    command = [sys.executable, "-c", BIG, str(path)]
    count, zeros, more = map(int, subprocess.check_output(command, encoding="utf-8").split())

    assert shape[:1] == b"\x0a"
    assert (count, zeros) == (size, size)
    assert more < 64 * 2**10


def test_sorting_puts_the_largest_first_and_what_has_no_number_last(open_values):
    """Words are sorted the other way; a column that is not there is told."""
    with open_values({**VALUES, "note": "x"}) as ckpt:
        table = ckpt.stats()

    assert [row.name for row in table.sort("max")] == ["b", "a", "flags", "empty", "note"]
    assert [row.name for row in table.sort("max", descending=False)][:3] == ["flags", "a", "b"]
    assert [row.name for row in table.sort("name")] == ["a", "b", "empty", "flags", "note"]
    with pytest.raises(ArgumentValueError, match="one of name, dtype"):
        table.sort("size")


def test_plain_data(open_values):
    """Dictionaries by name, with None for what does not exist."""
    with open_values(VALUES) as ckpt:
        found = ckpt.stats().to_dict()

    assert found["a"]["norm"] == pytest.approx(math.sqrt(30))
    assert (found["b"]["min"], found["b"]["max"], found["b"]["mean"], found["b"]["nan"]) == (0, math.inf, 1, 1)
    assert (found["flags"]["min"], found["flags"]["max"], found["flags"]["zeros"]) == (0, 1, 1)
    assert (found["empty"]["count"], found["empty"]["min"], found["empty"]["std"]) == (0, None, None)


def test_csv_and_json_can_be_read_back(open_values, tmp_path):
    """By others than us; the same text goes to a file."""
    with open_values(VALUES) as ckpt:
        table = ckpt.stats()
    table.to_csv(tmp_path / "t.csv")
    table.to_json(tmp_path / "t.json")
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    parsed = json.loads(table.to_json(), parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))

    assert (list(rows[0]), rows[0]["shape"], float(rows[0]["mean"])) == (list(COLUMNS), "2x2", 1.0)
    assert (parsed[0]["shape"], parsed[1]["max"]) == ([2, 2], "inf")
    assert (tmp_path / "t.csv").read_text() == table.to_csv()
    assert (tmp_path / "t.json").read_text() == table.to_json()


@pytest.mark.parametrize("method", ["to_csv", "to_json"])
def test_a_table_takes_the_place_of_a_file_by_rename(method, open_values, tmp_path):
    """Who has the old file open keeps reading it; the new one has its permissions, and a link still leads to it."""
    folder = tmp_path / "tables"
    folder.mkdir()
    target, link = folder / "table", folder / "link"
    target.write_text("old")
    target.chmod(0o600)
    link.symlink_to(target)
    with open_values(VALUES) as ckpt, target.open() as old:
        table = ckpt.stats()
        getattr(table, method)(link)

        assert old.read() == "old"
    assert (target.read_text(), stat.S_IMODE(target.stat().st_mode)) == (getattr(table, method)(), 0o600)
    assert (link.is_symlink(), sorted(os.listdir(folder))) == (True, ["link", "table"])


@pytest.mark.parametrize("method", ["to_csv", "to_json"])
def test_a_table_that_cannot_be_written_says_why(method, open_values, tmp_path):
    """A folder that is not there, a folder in the way: typed errors with the path."""
    with open_values(VALUES) as ckpt:
        table = ckpt.stats()

    with pytest.raises(MissingFolder, match=r"no.there.* create it first"):
        getattr(table, method)(tmp_path / "no" / "there")
    with pytest.raises(FolderInTheWay, match="is a folder"):
        getattr(table, method)(tmp_path)


def test_a_table_prints_in_columns(open_values):
    """Plain text without a terminal; the same lines with rich."""
    with open_values(VALUES) as ckpt:
        table = ckpt.stats()
    lines = str(table).splitlines()
    with (console := Console(width=200, file=io.StringIO())).capture() as printed:
        console.print(table)

    assert lines[0].split() == list(PRINTED)
    assert lines[1].split() == ["a", "Float32", "2", "×", "2", "-2", "5", "1", "2.55", "5.477", "1", "0", "0"]
    assert [line.rstrip() for line in printed.get().splitlines()] == lines


def test_a_table_shows_in_a_notebook_with_hostile_names_escaped(open_values):
    """Markup in a name stays text."""
    with open_values({"<script>alert(1)</script>": np.ones(2, "float32")}) as ckpt:
        made = ckpt.stats()._repr_html_()

    assert "<script" not in made
    assert "&lt;script&gt;alert(1)" in made


def test_a_table_is_a_sequence(open_values):
    """Rows by place, by name, in slices."""
    with open_values(VALUES) as ckpt:
        table = ckpt.stats()

    assert (len(table), table[0].name, table["b"].name, len(table[1:])) == (4, "a", "b", 3)
    with pytest.raises(KeyError):
        table["no such"]
