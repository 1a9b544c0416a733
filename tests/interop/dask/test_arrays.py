"""Beside a real dask: the tasks of an array read their own part of the file, on every scheduler."""

from __future__ import annotations

import pickle

import dask
import dask.array as da
import ml_dtypes
import numpy as np
import pytest
from checkpoints import MIXED, NAMES, array_value, checkpoint, counting
from encryption import KEY, MODES, encrypted, shows
from opening import opened_and_traced
from tracing import TracingSource

import lazyckpt
from lazyckpt import KeyReference
from lazyckpt.errors import ArgumentTypeError, ChangedFile, NotPicklable

SCHEDULERS = ["synchronous", "threads", "processes"]
VALUES = {
    "w": counting((1000, 100)),
    "cube": counting((7, 5, 3), "int64"),
    "scalar": np.array(3.5),
    "empty": np.empty((0, 5), "float32"),
    "half": counting((64, 4)).astype(ml_dtypes.bfloat16),
    "mask": counting((9,), "int8") % 2 == 0,
}


def written(folder, data, name="net.ckpt"):
    """The path of a new file."""
    path = folder / name
    path.write_bytes(data)
    return str(path)


@pytest.fixture
def ckpt(tmp_path):
    """A checkpoint of several dtypes and shapes."""
    with lazyckpt.load_checkpoint(written(tmp_path, checkpoint(VALUES))) as ckpt:
        yield ckpt


def same(found, expected):
    """Whether two arrays are equal in type, shape and values."""
    return (found.shape, found.dtype, found.tobytes()) == (expected.shape, expected.dtype, expected.tobytes())


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("chunks", [None, 3, "auto", -1], ids=str)
def test_arrays_are_the_values(scheduler, chunks, ckpt):
    """Arrays of every dtype and shape equal the values, for any chunks and any scheduler."""
    arrays = {name: ckpt.to_dask(name, chunks) for name in VALUES if not (name == "w" and chunks == 3)}
    found = dict(zip(arrays, dask.compute(*arrays.values(), scheduler=scheduler, num_workers=2), strict=True))

    assert {name: (array.shape, array.dtype) for name, array in arrays.items()} == {
        name: (VALUES[name].shape, VALUES[name].dtype) for name in arrays
    }
    assert [name for name in arrays if not same(np.asarray(found[name]), VALUES[name])] == []


def test_arrays_are_read_by_the_workers_of_a_cluster(ckpt, client):
    """Whole arrays, slices and sums equal numpy's."""
    array, truth = ckpt.to_dask("w", (90, -1)), VALUES["w"]

    assert same(client.compute(array).result(), truth)
    assert same(array[123:456:7, ::3].compute(), truth[123:456:7, ::3])
    assert array.astype("float64").sum().compute() == truth.astype("float64").sum()
    assert same((ckpt["half"].to_dask((7, 4)).astype("float32") + 1).compute(), VALUES["half"].astype("float32") + 1)


def test_no_value_is_in_the_graph(tmp_path, client):
    """For 4 MB in 1,000 chunks, the graph sent to the scheduler has some kilobytes."""
    with lazyckpt.load_checkpoint(written(tmp_path, checkpoint({"big": counting((1000, 1000))}))) as ckpt:
        array = ckpt.to_dask("big", (1, -1))
        size = len(pickle.dumps(array.__dask_graph__()))
        largest = array.max().compute()

    assert array.npartitions == 1000
    assert size < 20_000
    assert largest == 999_999


def test_a_slice_reads_the_bytes_of_the_slice():
    """dask fuses a slice of the array into the tasks' reads of the file."""
    source = TracingSource(checkpoint({"w": VALUES["w"]}))
    ckpt = opened_and_traced(source)
    (ckpt.to_dask("w", (100, -1))[250:253] + 1).sum().compute(scheduler="synchronous")
    header, rows = source.reads

    assert rows == (rows[0], 3 * 400)
    assert header[1] < 100


def test_chunks_are_runs_of_the_file(ckpt, monkeypatch):
    """By default each chunk is rows, or part of a row: one read."""
    monkeypatch.setattr("lazyckpt.tensors.dask.runs.__defaults__", (1000,))
    source = TracingSource(checkpoint(VALUES))
    traced = opened_and_traced(source)
    for name in ("w", "cube", "half"):
        array = traced.to_dask(name)
        for block in array.blocks.ravel():
            source.reads.clear()
            block.compute(scheduler="synchronous")
            assert [length for _, length in source.reads[1:]] == [block.nbytes]


def test_the_same_value_is_the_same_array(ckpt, tmp_path):
    """Names distinguish values and versions of a file, so that a cluster computes each once."""
    names = {ckpt.to_dask("w").name, ckpt["w"].to_dask().name, pickle.loads(pickle.dumps(ckpt))["w"].to_dask().name}
    others = {ckpt.to_dask("cube").name, ckpt.to_dask("w", (10, 10)).name}
    written(tmp_path, checkpoint({**VALUES, "w": VALUES["w"] + 1}))
    with lazyckpt.load_checkpoint(ckpt.path) as newer:
        others.add(newer.to_dask("w").name)

    assert len(names) == 1
    assert len(names | others) == 4


def test_a_file_that_changed_is_an_error_of_the_task(tmp_path, client):
    """A worker never reads another file than the one opened here."""
    path = written(tmp_path, checkpoint(VALUES))
    with lazyckpt.load_checkpoint(path) as ckpt:
        array = ckpt.to_dask("w")
    written(tmp_path, checkpoint({**VALUES, "more": counting((3,))}))
    with pytest.raises(ChangedFile):
        client.compute(array).result()


def test_values_in_memory_are_in_the_graph(ckpt):
    """Values set or assigned in memory become arrays like any other."""
    ckpt["w"].set_data(np.arange(6))
    ckpt["new"] = np.ones((2, 2))

    assert same(ckpt.to_dask("w").compute(), np.arange(6))
    assert same(ckpt.to_dask("new", 1).compute(), np.ones((2, 2)))


@pytest.mark.parametrize("name", ["note", "table"])
def test_what_is_no_array_is_refused(name, tmp_path):
    """A string and a map are refused."""
    with (
        lazyckpt.load_checkpoint(written(tmp_path, checkpoint(MIXED))) as ckpt,
        pytest.raises(ArgumentTypeError, match="not an array"),
    ):
        ckpt.to_dask(name)


@pytest.mark.parametrize("mode", MODES)
def test_encrypted_values_are_read_with_a_key_that_workers_find(mode, tmp_path, client):
    """A literal key is never sent, and the error says how to send a reference."""
    path = written(tmp_path, encrypted(checkpoint(VALUES), mode, block=5000))
    reference = KeyReference(file=written(tmp_path, KEY, "right.key"))
    with lazyckpt.load_checkpoint(path, dec_key=reference, dec_mode=mode) as ckpt:
        assert same(client.compute(ckpt.to_dask("w", (50, -1))).result(), VALUES["w"])
    with (
        lazyckpt.load_checkpoint(path, dec_key=KEY, dec_mode=mode) as ckpt,
        pytest.raises((NotPicklable, TypeError)) as caught,
    ):
        client.compute(ckpt.to_dask("w", (50, -1))).result()

    assert "KeyReference" in message_of(caught.value)
    assert not shows(message_of(caught.value).encode(), KEY)


def message_of(error):
    """The messages of an error and of all errors behind it."""
    return "" if error is None else f"{error} {message_of(error.__cause__)} {message_of(error.__context__)}"


@pytest.mark.parametrize("mode", MODES)
def test_threads_read_encrypted_values_with_the_key_itself(mode, tmp_path):
    """Threads share the process that has the key."""
    path = written(tmp_path, encrypted(checkpoint(VALUES), mode, block=5000))
    with lazyckpt.load_checkpoint(path, dec_key=KEY, dec_mode=mode) as ckpt:
        assert same(ckpt.to_dask("w", (50, -1)).compute(scheduler="threads"), VALUES["w"])


def test_many_files_are_one_array(tmp_path, client):
    """In a stack of layers from several checkpoints, each task opens its own file."""
    arrays, truth = [], []
    for number in range(5):
        truth.append(counting((20, 30)) * number)
        with lazyckpt.load_checkpoint(written(tmp_path, checkpoint({"w": truth[-1]}), f"{number}.ckpt")) as ckpt:
            arrays.append(ckpt.to_dask("w"))

    assert same(da.stack(arrays).std(axis=0).compute(), da.stack(truth).std(axis=0).compute())


def test_dask_takes_a_parameter_for_an_array(tmp_path):
    """`from_array` of a parameter of any dtype gives its values, with its dtype."""
    data = b"".join(array_value(name, counting((4, 6)).astype(name)) for name in NAMES)
    with lazyckpt.load_checkpoint(written(tmp_path, data)) as ckpt:
        wrong = [name for name, param in ckpt.items() if not same(da.from_array(param, 2).compute(), param.asnumpy())]

        assert list(ckpt) == list(NAMES)
        assert wrong == []


def test_every_dtype_has_an_array(tmp_path):
    """Dtypes that numpy has only through ml_dtypes have arrays, too."""
    data = b"".join(array_value(name, counting((4, 6)).astype(name)) for name in NAMES)
    with lazyckpt.load_checkpoint(written(tmp_path, data)) as ckpt:
        wrong = [name for name in ckpt if not same(ckpt.to_dask(name, (1, 6)).compute(), ckpt[name].asnumpy())]

        assert list(ckpt) == list(NAMES)
        assert wrong == []
