"""Statistics of checkpoints and values: what is measured, and what is read."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from checkpoints import LAYERS, MIXED, checkpoint, chunk, counting, number, varint
from decryptions import counted
from encryption import KEY, encrypted, split
from measured_values import VALUES
from opening import opened_and_traced
from tracing import TracingSource, places

import lazyckpt
from lazyckpt.statistics import stream
from lazyckpt.statistics.stream import rows_in_memory


def test_every_tensor_has_a_row_in_file_order(open_values):
    """Each row's numbers equal numpy's."""
    with open_values(LAYERS) as ckpt:
        table = ckpt.stats()

    assert [row.name for row in table] == list(LAYERS)
    assert [row.moments.mean for row in table] == pytest.approx([float(np.mean(v)) for v in LAYERS.values()])
    assert [(row.moments.low, row.moments.high) for row in table] == [(v.min(), v.max()) for v in LAYERS.values()]


@pytest.mark.parametrize("workers", [1, 3])
def test_many_small_values_are_measured_as_each_alone(workers, open_values):
    """Similar values measured together give the same bits as alone, with any values between them."""
    rng = np.random.default_rng(11)
    many = {f"layer{number}": rng.standard_normal((number % 5 + 1, 7)).astype("float32") for number in range(80)}
    many["layer30"][0, 3], many["layer40"][0, 0], many["layer50"][0] = math.nan, -math.inf, math.nan
    with open_values({**many, **MIXED, **VALUES, "last": np.zeros(9)}) as ckpt:
        table = ckpt.stats(workers=workers)
        alone = [row for name in ckpt if name not in MIXED for row in ckpt[name].stats()]

    assert [str(row) for row in table if row.name.partition("[")[0] not in MIXED] == [str(row) for row in alone]


def test_names_are_answered_in_the_order_that_was_asked_for(open_values):
    """Rows come in the requested order; an absent name is reported before anything is read."""
    with open_values(LAYERS) as ckpt:
        assert [row.name for row in ckpt.stats(["step", "conv1.bias"])] == ["step", "conv1.bias"]
        with pytest.raises(KeyError):
            ckpt.stats(["step", "no such"])


def test_maps_have_a_row_for_each_array_and_strings_say_why_they_have_no_numbers(open_values):
    """No value of a checkpoint is omitted silently."""
    with open_values(MIXED) as ckpt:
        table = ckpt.stats(["note", "table"])

    assert [(row.name, row.moments.count, row.skipped) for row in table] == [
        ("note", 0, "a string"),
        ("table[keys]", 3, ""),
        ("table[values]", 12, ""),
        ("table[status]", 3, ""),
    ]


def test_values_in_memory_are_measured_as_they_are_now(open_values):
    """Edited values are measured, and the file's are not."""
    with open_values(LAYERS) as ckpt:
        ckpt["step"].set_data(np.array([3.0, 5.0]))
        ckpt["new"] = np.array([7, 9])
        ckpt["what"] = object()
        del ckpt["mask"]
        table = ckpt.stats()

    assert (table["step"].moments.mean, table["new"].moments.mean) == (4.0, 8.0)
    assert table["what"].skipped == "a object"
    assert "mask" not in [row.name for row in table]


def test_a_parameter_shows_its_own(open_values):
    """The row equals that of the checkpoint's table, and after `set_data` that of the new value."""
    with open_values(LAYERS) as ckpt:
        parameter = ckpt["fc.weight"]
        assert list(parameter.stats()) == list(ckpt.stats(["fc.weight"]))
        parameter.set_data(np.array([2.0]))
        assert parameter.stats()[0].moments.mean == 2.0


def test_only_what_is_asked_for_is_read():
    """No payload byte of another value is read."""
    source = TracingSource(checkpoint(LAYERS))
    ckpt = opened_and_traced(source)
    ckpt.stats(["conv1.bias"])
    others = set().union(*(places(ckpt.entry(name).extents) for name in LAYERS if name != "conv1.bias"))

    assert source.looked_at() & others == set()
    assert places(ckpt.entry("conv1.bias").extents) <= source.looked_at()


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_and_progress_change_no_number(open_values, workers):
    """The numbers do not depend on threads, and progress ends at the total."""
    values = {f"v{i}": counting((50, 7)) * i for i in range(20)}
    calls = []
    with open_values(values) as ckpt:
        table = ckpt.stats(workers=workers, progress=lambda done, total: calls.append((done, total)))

    assert [row.moments.norm for row in table] == pytest.approx([float(np.linalg.norm(v)) for v in values.values()])
    assert calls[-1] == (20 * 1400, 20 * 1400)
    assert calls == sorted(calls)


def test_of_an_encrypted_file_each_block_is_decrypted_once(tmp_path, monkeypatch):
    """Values share blocks, and large values span several; the numbers equal the plain file's."""
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
    """For 512 MiB of zeros the peak rises by less than 64 MiB, mapped pages included."""
    size = 2**27
    small = checkpoint({"a": np.ones(3, "float32")})
    shape = checkpoint({"big": np.zeros(1, "float32")})
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


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        (np.ones((2, 3), "int8"), [("v", "Int8", (2, 3), 6, "")]),
        (np.ones(3, "longdouble"), [("v", str(np.dtype("longdouble")), (3,), 3, "")]),
        (np.array(["w"]), [("v", "<U1", (1,), 0, "no numbers")]),
        ([np.ones(2), np.ones((2, 2)), np.ones(2)], [("v[keys]", "Float64", (2,), 2, ""),
         ("v[values]", "Float64", (2, 2), 4, ""), ("v[status]", "Float64", (2,), 2, "")]),
        ([np.ones(2)], [("v[0]", "Float64", (2,), 2, "")]),
        ("text", [("v", "str", (), 0, "a string")]),
        ([], [("v", "list", (), 0, "a list")]),
        (3.5, [("v", "float", (), 0, "a float")]),
    ],
    ids=["array", "long double", "text array", "map", "one array", "string", "empty list", "number"],
)  # fmt: skip
def test_every_value_in_memory_has_rows(value, rows):
    """Arrays in memory are measured; other values have a row with the reason."""
    found = rows_in_memory("v", value)

    assert [(row.name, row.dtype, row.shape, row.moments.count, row.skipped) for row in found] == rows


@pytest.mark.parametrize(("size", "batches"), [(1, 20), (2800, 10), (10**6, 1)])
def test_values_that_must_be_copied_are_fetched_together(size, batches, monkeypatch):
    """From a source that copies, values are fetched in batches of limited size."""
    values = {f"v{number}": counting((350,)) * number for number in range(20)}
    source = TracingSource(checkpoint(values))
    ckpt = opened_and_traced(source)
    asked = []
    read_many = source.read_many
    source.read_many = lambda requests: asked.append(1) or read_many(requests)
    monkeypatch.setattr(stream, "BATCH_BYTES", size)
    table = ckpt.stats()

    assert [row.moments.high for row in table] == [349.0 * number for number in range(20)]
    assert len(asked) == batches
