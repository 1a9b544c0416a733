"""Beside real zarr, xarray, dask and kerchunk: they read a checkpoint in place through its references.

Run where they are installed: `python -m pytest tests/interop/zarr`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from pathlib import Path

import dask.array
import fsspec
import ml_dtypes
import numpy as np
import pytest
import xarray
import zarr
from checkpoints import MIXED, checkpoint, chunk, counting, key, number, varint
from hostile_names import HOSTILE
from mindspore_results import GOLDEN
from range_server import serving
from safetensors_files import item, raw

import lazyckpt
from lazyckpt.references.metadata import DTYPE, LEFT_OUT, NAME

MIB = 2**20
FOLDERS = [GOLDEN / "real", *map(Path, filter(None, [os.environ.get("LAZYCKPT_REAL")]))]
REAL = [
    pytest.param(folder / name, parameters, id=f"{folder.name}/{name}")
    for folder in FOLDERS
    for name, parameters in json.loads((folder / "expected.json").read_text(encoding="utf-8")).items()
]
KINDS = ["json", "parquet"]

# fsspec reads Parquet with it; xarray's own plans for its defaults are not ours.
pytestmark = pytest.mark.filterwarnings("ignore:.*fastparquet:DeprecationWarning")


@pytest.fixture(autouse=True)
def _no_instances():
    """fsspec caches file systems, so one test's references must not serve another."""
    yield
    fsspec.get_filesystem_class("reference").clear_instance_cache()


def group_of(fo):
    """The hierarchy in the references."""
    return zarr.open_group("reference://", storage_options={"fo": str(fo)}, mode="r")


def dataset_of(fo, **options):
    """The references as an xarray dataset."""
    backend_options = {"storage_options": {"fo": str(fo), **options}}
    return xarray.open_dataset("reference://", engine="zarr", backend_kwargs=backend_options)


def written(ckpt, folder, kind="json", **options):
    """A file of references to a checkpoint."""
    ckpt.references(**options).save(folder / f"refs.{kind}")
    return folder / f"refs.{kind}"


@pytest.fixture
def path(tmp_path):
    """A checkpoint with one value of each kind."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(checkpoint(MIXED))
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("file", "parameters"), REAL)
def test_published_checkpoints_are_what_mindspore_reads(file, parameters, kind, tmp_path):
    """zarr, xarray and dask find MindSpore's shapes and bytes, in JSON and in Parquet."""
    path = shutil.copy(file, tmp_path)
    with lazyckpt.load_checkpoint(path) as ckpt:
        fo = written(ckpt, tmp_path, kind, chunk_size=10_000)
    group, dataset = group_of(fo), dataset_of(fo)
    seen = {
        "zarr": {name: group[name][...] for name in parameters},
        "xarray": {name: dataset[name].to_numpy() for name in parameters},
        "dask": {name: np.asarray(dask.array.from_zarr(group[name])) for name in parameters},
    }

    expected = {name: (known["shape"], known["dtype"].lower(), known["sha256"]) for name, known in parameters.items()}
    assert {reader: facts(values) for reader, values in seen.items()} == dict.fromkeys(seen, expected)
    assert set(group) == set(parameters)


def facts(values):
    """The recorded facts of arrays."""
    return {
        name: (list(array.shape), array.dtype.name, hashlib.sha256(array.tobytes()).hexdigest())
        for name, array in values.items()
    }


@pytest.mark.parametrize(
    ("kind", "options"),
    [("json", {"nested": True}), *itertools.product(KINDS, ({}, {"inline": 100}, {"chunk_size": 100}))],
)
def test_values_of_every_kind_are_read(kind, options, path, tmp_path):
    """Tensors, scalars, bools, strings, and maps as three arrays."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        group = group_of(written(ckpt, tmp_path, kind, **options))
    for name, value in MIXED.items():
        if isinstance(value, list):
            found = [group[f"{name}~{part}"][...].tolist() for part in ("keys", "values", "status")]
            assert found == [part.tolist() for part in value]
        else:
            found = group[name.replace(".", "/") if "nested" in options else name]
            assert found[...].tolist() == np.asarray(value).tolist()
            assert found.shape == np.shape(value)


def test_xarray_opens_nested_names_as_a_tree(path, tmp_path):
    """xarray opens each group as a dataset."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        fo = written(ckpt, tmp_path, nested=True)
    tree = xarray.open_datatree("reference://", engine="zarr", storage_options={"fo": str(fo)})

    assert tree["conv1/weight"].to_numpy().tolist() == MIXED["conv1.weight"].tolist()
    assert sorted(tree.children) == ["conv1", "fc"]


def test_kerchunks_own_engine_opens_them(path, tmp_path):
    """`engine="kerchunk"` needs no consolidated metadata."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        fo = written(ckpt, tmp_path)
    dataset = xarray.open_dataset(str(fo), engine="kerchunk")

    assert dataset["fc.weight"].to_numpy().tolist() == MIXED["fc.weight"].tolist()


def test_data_need_no_file(path):
    """fsspec accepts `to_dict()` without a file."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        references = ckpt.references().to_dict()
    store = zarr.storage.FsspecStore(fsspec.filesystem("reference", fo=references, asynchronous=True), read_only=True)

    assert zarr.open_group(store, mode="r")["step"][()] == 17


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_names_are_found_by_their_attribute(kind, tmp_path):
    """Names stay in the folder, are not interpreted, and are not lost."""
    names = [name for name in HOSTILE if name.strip() == name and "\ud800" not in name]
    values = {name: np.array([number], "int32") for number, name in enumerate(names)}
    (tmp_path / "net.ckpt").write_bytes(checkpoint(values))
    with lazyckpt.load_checkpoint(tmp_path / "net.ckpt") as ckpt:
        fo = written(ckpt, tmp_path, kind)
        expected = {name: ckpt[name].asnumpy().tolist() for name in ckpt}
    group, dataset = group_of(fo), dataset_of(fo)

    assert {array.attrs.get(NAME, path): array[...].tolist() for path, array in group.arrays()} == expected
    assert {one.attrs.get(NAME, path): one.to_numpy().tolist() for path, one in dataset.variables.items()} == expected
    assert sorted(os.listdir(tmp_path)) == ["net.ckpt", "net.ckpt.lmdb", f"refs.{kind}"]


def test_types_that_zarr_lacks_are_viewed_as_what_they_are(tmp_path):
    """The attribute has the dtype's name for a view, as documented."""
    values = counting((3, 4)).astype(ml_dtypes.bfloat16), counting((5,)).astype(ml_dtypes.float8_e4m3fn)
    header = {"a": item("BF16", (3, 4), 0, 24), "b": item("F8_E4M3", (5,), 24, 29), "odd": item("F4", (2, 3), 29, 32)}
    data = b"".join(value.tobytes() for value in values) + bytes(3)
    (tmp_path / "net.safetensors").write_bytes(raw(header, data))
    with lazyckpt.load_checkpoint(tmp_path / "net.safetensors", format="safetensors") as ckpt:
        group = group_of(written(ckpt, tmp_path))
    found = [group[name][...].view(getattr(ml_dtypes, group[name].attrs[DTYPE])) for name in "ab"]

    assert [(one.dtype, one.tolist()) for one in found] == [(one.dtype, one.tolist()) for one in values]
    assert list(group.attrs[LEFT_OUT]) == ["odd"]


def test_zarr_takes_a_parameter_for_an_array(tmp_path):
    """`create_array` of a parameter stores its values, with its dtype."""
    arrays = {name: counting((4, 3)).astype(name) for name in ("float32", "float16", "int64", "bool", "uint8")}
    (tmp_path / "net.ckpt").write_bytes(checkpoint(arrays))
    with lazyckpt.load_checkpoint(tmp_path / "net.ckpt") as ckpt:
        made = {name: zarr.create_array(zarr.storage.MemoryStore(), data=param)[...] for name, param in ckpt.items()}

    assert {name: (array.dtype, array.tolist()) for name, array in made.items()} == {
        name: (array.dtype, array.tolist()) for name, array in arrays.items()
    }


def test_complex_numbers_are_zarrs_own(tmp_path):
    """Complex numbers equal numpy's."""
    value = np.array([1 + 2j, 3 - 4j], "complex64")
    (tmp_path / "net.safetensors").write_bytes(raw({"c": item("C64", (2,), 0, 16)}, value.tobytes()))
    with lazyckpt.load_checkpoint(tmp_path / "net.safetensors", format="safetensors") as ckpt:
        fo = written(ckpt, tmp_path)

    assert group_of(fo)["c"][...].tolist() == dataset_of(fo)["c"].to_numpy().tolist() == value.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_on_a_web_server_is_read_by_ranges(kind, path, tmp_path):
    """References made here for a published file fetch only the value's bytes."""
    with serving(tmp_path) as (url, asked):
        with lazyckpt.load_checkpoint(path) as ckpt:
            fo = written(ckpt, tmp_path, kind, url=f"{url}/net.ckpt")
            place = ckpt.entry("fc.weight").extents[0]
        remote = {"remote_protocol": "http", "remote_options": {"asynchronous": True}}
        dataset = dataset_of(f"{url}/{fo.name}" if kind == "json" else fo, **remote)
        found = dataset["fc.weight"].to_numpy()

    assert found.tolist() == MIXED["fc.weight"].tolist()
    assert [(offset, length) for file, offset, length in asked if file == "net.ckpt"] == [tuple(place)]


def test_references_in_parquet_are_replaced_whole(path, tmp_path):
    """New references replace the old ones completely, and nothing else."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        written(ckpt, tmp_path, "parquet")
        fo = written(ckpt.select("fc."), tmp_path, "parquet")

    assert list(group_of(fo)) == ["fc.weight"]
    assert sorted(os.listdir(tmp_path)) == ["net.ckpt", "net.ckpt.lmdb", "refs.parquet"]


def test_names_too_long_for_a_folder_are_refused_in_parquet(tmp_path):
    """JSON accepts names too long for a folder."""
    name = "w" * 300
    (tmp_path / "net.ckpt").write_bytes(checkpoint({name: counting((2,))}))
    with lazyckpt.load_checkpoint(tmp_path / "net.ckpt") as ckpt:
        with pytest.raises(lazyckpt.errors.ArgumentValueError, match="too long a name for a folder"):
            written(ckpt, tmp_path, "parquet")
        assert group_of(written(ckpt, tmp_path))[name][...].tolist() == [0, 1]
    assert sorted(os.listdir(tmp_path)) == ["net.ckpt", "net.ckpt.lmdb", "refs.json"]


def hole(file, name, dims, dtype, length):
    """Append a sparse tensor of zeros, or a slice of one; returns its offset."""
    head = b"".join(number(1, dim) for dim in dims) + chunk(2, dtype.encode()) + key(3, 2) + varint(length)
    tensor = key(2, 2) + varint(len(head) + length) + head
    value = chunk(1, name.encode()) + tensor
    file.write(key(1, 2) + varint(len(value) + length) + value)
    start = file.tell()
    file.truncate(start + length)
    file.seek(start + length)
    return start


@pytest.fixture
def gibibyte(tmp_path):
    """1 GiB as MindSpore cuts it: a matrix in two slices, and one whose second slice begins within a row."""
    path = tmp_path / "large.ckpt"
    half = 512 * MIB
    with open(path, "wb") as file:
        starts = [hole(file, "even", [81920, 2048], "Float32", length) for length in (half, 128 * MIB)]
        starts += [hole(file, "odd", [17401, 16384 - 2], "Float16", length) for length in (half, 17401 * 32764 - half)]
        size = file.tell()
    with open(path, "r+b") as file:  # something that is not zero, all over the file, and around all borders
        for place in [*range(0, size - 8, 7 * MIB), *(start + by for start in starts for by in (0, 8)), size - 8]:
            if all(not start - 200 < place < start for start in starts):
                file.seek(place)
                file.write(np.uint64(place * 0x9E3779B97F4A7C15 % 2**64).tobytes())
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_gibibyte_is_read_in_chunks(kind, gibibyte, tmp_path):
    """Every byte is right; little of the file is copied into the references, though a row crosses a border."""
    with lazyckpt.load_checkpoint(gibibyte, index="memory") as ckpt:
        fo = written(ckpt, tmp_path, kind, chunk_size=64 * MIB)
        group = group_of(fo)
        for name in ckpt:
            found = dask.array.from_zarr(group[name])
            wanted = ckpt[name]
            same = found.map_blocks(
                lambda block, block_info=None, wanted=wanted: np.array(
                    [[_same(block, wanted, block_info[0]["array-location"])]]
                ),
                chunks=(1, 1),
                dtype=bool,
                meta=np.empty((0, 0), bool),
            )
            assert found.shape == wanted.shape
            assert same.all().compute(scheduler="threads", num_workers=2)
        assert group["even"].chunks == (8192, 2048)  # 64 MiB, whose multiples are all borders
    if kind == "json":
        assert fo.stat().st_size < 3 * MIB
    else:
        assert sum(file.stat().st_size for file in fo.rglob("*") if file.is_file()) < 3 * MIB


def _same(block, wanted, place):
    """Whether a block equals that part of a parameter, bit for bit."""
    part = wanted[tuple(slice(start, stop) for start, stop in place)]
    return np.ascontiguousarray(part).tobytes() == np.ascontiguousarray(block).tobytes()
