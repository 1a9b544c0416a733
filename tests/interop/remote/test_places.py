"""URLs work as paths do: sets, ranks, folders, patterns, commands; elsewhere they are refused."""

from __future__ import annotations

import gc
import json
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest

import lazyckpt
from lazyckpt.errors import ArgumentValueError, ChangedFile, CorruptFile, UnreadableFile
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


def part_of(url, name, folder):
    """The values of a listing at a URL whose only part has this name; the store holds others around it."""
    fs, path = fsspec.core.url_to_fs(url)
    inside = f"{path.rstrip('/')}/{name}"
    fs.pipe_file(inside, _saved(folder / "net.ckpt").read_bytes())
    fs.pipe_file(
        f"{path.rstrip('/')}/net.ckpt.index.json", json.dumps({"weight_map": dict.fromkeys(VALUES, name)}).encode()
    )
    with lazyckpt.load_checkpoint(
        f"{url if url.endswith('/') else f'{url}/'}net.ckpt.index.json", index="memory"
    ) as checkpoint:
        return checkpoint.load()


@pytest.mark.parametrize("name", ["part.ckpt", "a b.ckpt", "memory:x.ckpt", "~.ckpt", "é.ckpt"])
def test_a_part_is_an_object_beside_its_listing(bucket, tmp_path, name):
    """A part with an unusual name is the object of that name."""
    np.testing.assert_equal(part_of(bucket, name, tmp_path), VALUES)


@pytest.mark.parametrize("name", ["x.ckpt::memory:", "x.ckpt?versionId=1", "x.ckpt#1", "%2e%2e", "memory::x.ckpt"])
def test_a_part_that_a_store_would_interpret_is_refused(bucket, tmp_path, name):
    """No chain, version or escape in the name of a part reaches the store."""
    with pytest.raises(CorruptFile, match="cannot be part of a URL"):
        part_of(bucket, name, tmp_path)


def test_the_parts_of_a_listing_at_the_root_of_a_store_are_there(tmp_path, monkeypatch):
    """The root of a store does not become a local folder."""
    monkeypatch.chdir(tmp_path)
    try:
        np.testing.assert_equal(part_of("memory://", "root.ckpt", tmp_path), VALUES)
    finally:
        fsspec.filesystem("memory").rm(["/root.ckpt", "/net.ckpt.index.json"])


@pytest.mark.parametrize(
    "name", ["a b.ckpt", "a?b.ckpt", "a#b.ckpt", "%2e%2e%2fx.ckpt", "..%2fx.ckpt", "memory::x.ckpt"]
)
def test_a_part_on_a_web_server_is_escaped(web, tmp_path, name):
    """Whatever its name, the request is for a file in the folder of the listing, which a query does not change."""
    folder = tmp_path / "set"
    folder.mkdir()
    _saved(folder / name)
    lazyckpt.save_checkpoint({"outside": np.zeros(1)}, str(tmp_path / "x.ckpt"))
    (folder / "net.ckpt.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(VALUES, name)}))
    with lazyckpt.load_checkpoint(f"{web.url}/set/net.ckpt.index.json?sig=/x/y", index="memory") as checkpoint:
        np.testing.assert_equal(checkpoint.load(), VALUES)

    assert {asked.path for asked in web.asked} == {"/set/net.ckpt.index.json", f"/set/{name}"}


def test_a_member_of_an_archive_is_a_checkpoint(tmp_path):
    """The name within the archive is the one that must end as the format says; a set in it has its parts there."""
    local = tmp_path / "local"
    local.mkdir()
    with lazyckpt.load_checkpoint(_saved(local / "whole.ckpt")) as whole:
        whole.save(local / "net.ckpt", max_shard_size=40_000)
    archive = shutil.make_archive(str(tmp_path / "set"), "zip", local)
    for name in ("whole.ckpt", "net.ckpt.index.json"):
        with lazyckpt.load_checkpoint(f"zip://{name}::file://{archive}", index="memory") as checkpoint:
            np.testing.assert_equal(checkpoint.load(), VALUES)

    assert f"zip://whole.ckpt::file://{archive}" in find_checkpoints([f"zip://w*::file://{archive}"])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # blockcache leaves its file open
@pytest.mark.parametrize("cache", ["filecache", "blockcache", "simplecache"])
def test_objects_are_read_through_a_cache(web, tmp_path, cache):
    """A cache of fsspec before a web server is as good as the server."""
    _saved(tmp_path / "net.ckpt")
    with lazyckpt.load_checkpoint(f"{cache}::{web.url}/net.ckpt") as checkpoint:
        np.testing.assert_equal(checkpoint.load(), VALUES)
    fsspec.filesystem(cache, target_protocol="http").clear_instance_cache()
    gc.collect()


def test_an_object_that_is_called_like_a_chain_is_not_opened_as_one(bucket):
    """A folder that holds one is refused, with the name of the object."""
    fs, path = fsspec.core.url_to_fs(bucket)
    fs.pipe_file(f"{path}/x::memory:.ckpt", b"")
    with pytest.raises(UnreadableFile, match=r"x::memory:\.ckpt"):
        find_checkpoints([bucket])
