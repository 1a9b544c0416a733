"""URLs work as paths do: sets, ranks, folders, patterns, commands; elsewhere they are refused."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import numpy as np
import pytest

import lazyckpt
from lazyckpt.errors import ArgumentValueError, ChangedFile, CorruptFile
from lazyckpt.explore.doctor import diagnose
from lazyckpt.index.batch import build_indexes, find_checkpoints
from lazyckpt.loading import open_all

SHARDED = Path(__file__).parents[2] / "golden" / "sharded"
VALUES = {f"layers.{number}.weight": np.full((64, 64), number, np.float32) for number in range(6)}


@pytest.fixture(params=["s3", "memory"])
def bucket(request, tmp_path):
    """The URL of an empty folder in a store with folders."""
    return request.getfixturevalue("s3_url") if request.param == "s3" else f"memory://{tmp_path.name}"


def put(folder, url):
    """Upload a local folder to a URL."""
    fs, path = fsspec.core.url_to_fs(url)
    for file in sorted(Path(folder).rglob("*")):
        if file.is_file() and file.suffix != ".lmdb":
            fs.pipe_file(f"{path}/{file.relative_to(folder).as_posix()}", file.read_bytes())
    return url


@pytest.fixture
def runs(bucket, tmp_path):
    """The URL of a folder of three checkpoints, one damaged and one in a subfolder."""
    local = tmp_path / "local"
    (local / "deep").mkdir(parents=True)
    lazyckpt.save_checkpoint(VALUES, str(local / "a.ckpt"))
    lazyckpt.save_checkpoint(VALUES, str(local / "deep" / "b.safetensors"), format="safetensors")
    (local / "c.ckpt").write_bytes((local / "a.ckpt").read_bytes()[:-100])
    return put(local, bucket)


def test_a_set_is_opened_by_the_url_of_its_listing(bucket, tmp_path):
    """The parts of a set are looked for beside the listing, as on a disk."""
    local = tmp_path / "local"
    local.mkdir()
    with lazyckpt.load_checkpoint(_saved(local / "whole.ckpt")) as whole:
        whole.save(local / "model.safetensors", max_shard_size=40_000)
    (local / "whole.ckpt").unlink()
    url = f"{put(local, bucket)}/model.safetensors.index.json"
    with lazyckpt.load_checkpoint(url, format="safetensors") as checkpoint:
        np.testing.assert_equal(checkpoint.load(), VALUES)


def _saved(path):
    lazyckpt.save_checkpoint(VALUES, str(path))
    return path


def test_ranks_are_put_together_from_a_bucket(bucket):
    """A folder of rank folders with its strategies gives the same values as on a disk."""
    case = SHARDED / "pipe2x2"
    url = put(case, bucket)
    with (
        lazyckpt.open_sharded(case / "checkpoint", strategy=case / "strategy_ckpt", index="memory") as here,
        lazyckpt.open_sharded(f"{url}/checkpoint", strategy=f"{url}/strategy_ckpt") as there,
    ):
        np.testing.assert_equal(there.load(), here.load())


def test_folders_and_patterns_name_their_checkpoints(runs):
    """A folder is searched at any depth, a pattern is matched, and an object stands for itself."""
    inside = [f"{runs}/a.ckpt", f"{runs}/c.ckpt", f"{runs}/deep/b.safetensors"]

    assert [name.replace("memory:///", "memory://") for name in find_checkpoints([runs])] == inside
    assert [name.replace("memory:///", "memory://") for name in find_checkpoints([f"{runs}/*.ckpt"])] == inside[:2]
    assert find_checkpoints([inside[0]]) == inside[:1]


def test_indexes_of_many_objects_are_built(runs):
    """Each object has one result: the damaged one an error, the others an index in the user's cache."""
    results = build_indexes(find_checkpoints([runs]))

    assert [(result.path.rpartition("/")[2], bool(result.error), result.parameters) for result in results] == [
        ("a.ckpt", False, 6),
        ("c.ckpt", True, 0),
        ("b.safetensors", False, 6),
    ]
    assert [result.fresh for result in build_indexes(find_checkpoints([runs]))] == [True, False, True]


def test_commands_take_urls(runs, run):
    """`ls`, `show`, `verify`, `find` and `diff` read objects."""
    url = f"{runs}/a.ckpt"
    listing = json.loads(run("ls", url, "--json")[1])
    outcomes = [
        run("show", url, "layers.3.weight")[0],
        run("verify", url)[0],
        run("find", "layers.5.*", url, f"{runs}/deep/b.safetensors")[0],
        run("diff", url, f"{runs}/deep/b.safetensors")[0],
        run("tree", url)[0],
        run("stats", url)[0],
    ]

    assert [parameter["name"] for parameter in listing] == list(VALUES)
    assert outcomes == [0] * 6


def test_an_object_is_written_here(bucket, tmp_path, run):
    """`convert` writes an object to a local file."""
    url = put(_folder_with_one(tmp_path), bucket)
    code, *_ = run("convert", f"{url}/a.ckpt", str(tmp_path / "out.safetensors"))
    with lazyckpt.load_checkpoint(tmp_path / "out.safetensors", format="safetensors") as checkpoint:
        assert code == 0
        np.testing.assert_equal(checkpoint.load(), VALUES)


def _folder_with_one(tmp_path):
    (tmp_path / "local").mkdir()
    _saved(tmp_path / "local" / "a.ckpt")
    return tmp_path / "local"


def test_nothing_is_saved_to_a_url(bucket):
    """The error says, before anything is written, that saving is only local."""
    with pytest.raises(ArgumentValueError, match="is a URL: files are written on this machine"):
        lazyckpt.save_checkpoint(VALUES, f"{bucket}/x.ckpt")


def test_a_doctor_sees_files_only(runs):
    """`doctor` refuses URLs and says what reads objects instead."""
    with pytest.raises(ArgumentValueError, match="verify reads others, too"):
        diagnose(f"{runs}/a.ckpt")


def test_a_damaged_object_says_where(runs):
    """The error of an object names its URL."""
    with pytest.raises(CorruptFile, match=r"c\.ckpt"):
        open_all(f"{runs}/c.ckpt")


def test_an_index_of_a_local_copy_is_taken_over(runs, tmp_path, walks):
    """An index built for the file before both were uploaded is used, and nothing is scanned."""
    fs, path = fsspec.core.url_to_fs(runs)
    local = tmp_path / "local" / "a.ckpt"
    lazyckpt.build_index(local)
    fs.pipe_file(f"{path}/a.ckpt.lmdb", Path(f"{local}.lmdb").read_bytes())
    walks.clear()
    for _ in range(2):
        with lazyckpt.load_checkpoint(f"{runs}/a.ckpt") as checkpoint:
            np.testing.assert_equal(checkpoint.load(), VALUES)

    assert walks == []


@pytest.mark.parametrize("content", ["another's", "damaged", "nothing"])
def test_an_index_of_another_object_is_not_taken(runs, tmp_path, walks, content):
    """A foreign index beside an object is ignored: the object is scanned."""
    fs, path = fsspec.core.url_to_fs(runs)
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "a.ckpt"
    lazyckpt.save_checkpoint({name: value + 1 for name, value in VALUES.items()}, str(other))
    lazyckpt.build_index(other)
    index = Path(f"{other}.lmdb").read_bytes()
    fs.pipe_file(f"{path}/a.ckpt.lmdb", {"another's": index, "damaged": index[:3000], "nothing": b""}[content])
    walks.clear()
    with lazyckpt.load_checkpoint(f"{runs}/a.ckpt") as checkpoint:
        np.testing.assert_equal(checkpoint.load(), VALUES)

    assert len(walks) == 1


def test_an_object_that_changes_while_it_is_indexed_gets_no_index(bucket, tmp_path, monkeypatch, cache_folder):
    """After the scan the object is checked again, because its headers may come from two versions."""
    url = f"{put(_folder_with_one(tmp_path), bucket)}/a.ckpt"
    data = fsspec.core.url_to_fs(url)[0].cat_file(url)

    def replaced(done, total):
        fsspec.core.url_to_fs(url)[0].pipe_file(url, data[:-1] + b"\x01")

    with pytest.raises(ChangedFile):
        lazyckpt.build_index(url, progress=replaced)

    assert not list(cache_folder.glob("*.lmdb"))


def test_references_of_an_object_lead_to_it(bucket, tmp_path):
    """References have the object's URL and the offsets of its values, and fsspec finds their bytes."""
    url = f"{put(_folder_with_one(tmp_path), bucket)}/a.ckpt"
    with lazyckpt.load_checkpoint(url) as checkpoint:
        references = checkpoint.references().to_dict()["refs"]
    where, offset, length = references["layers.4.weight/0.0"]
    fs, path = fsspec.core.url_to_fs(where)

    assert where == url
    assert fs.cat_file(path, start=offset, end=offset + length) == VALUES["layers.4.weight"].tobytes()
