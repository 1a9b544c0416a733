"""Network traffic: the requests and bytes for a part of a 1 GiB object."""

from __future__ import annotations

import shutil

import fsspec
import numpy as np
import pytest
from typer.testing import CliRunner

import lazyckpt
from lazyckpt import cli

MIB = 2**20
LARGE = 32 * MIB
SMALL = {
    f"layers.{layer}.{name}": MIB for layer in (3, 11, 20) for name in ("a", "b", "c", "d")[: 4 if layer == 3 else 3]
}
NAMES = {**{f"layers.{layer}.weight": LARGE for layer in range(32)}, **SMALL}
ORDER = sorted(NAMES, key=lambda name: (int(name.split(".")[1]), name))  # so the small ones of a layer are neighbours
RUNS = 3
URL = "s3://models/gigabyte/model.ckpt"


def value_of(name):
    """A value different from all others."""
    return np.full(NAMES[name] // 4, ORDER.index(name), np.float32)


@pytest.fixture(scope="session")
def gigabyte(tmp_path_factory):
    """A checkpoint of 1 GiB, with some small values between large ones."""
    path = tmp_path_factory.mktemp("large") / "model.ckpt"
    lazyckpt.save_checkpoint({name: value_of(name) for name in ORDER}, str(path))
    yield path
    shutil.rmtree(path.parent)


@pytest.fixture(scope="session")
def indexed(s3_server, gigabyte, tmp_path_factory):
    """The object on S3 with its index, the command's output, and the indexing traffic (once, because moto is slow)."""
    fs = fsspec.filesystem("s3")
    fs.put_file(str(gigabyte), URL)
    s3_server.asked.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAZYCKPT_CACHE", str(tmp_path_factory.mktemp("cache")))
        said = CliRunner().invoke(cli.app, ["index", URL, "--upload"])
    read = sum(request.sent for request in s3_server.asked if request.path.endswith(".ckpt"))
    yield said, read
    fs.rm("models/gigabyte", recursive=True)


@pytest.fixture(params=["s3", "web"])
def store(request, tmp_path, gigabyte):
    """The server, and the object's URL."""
    if request.param == "s3":
        request.getfixturevalue("indexed")
        return request.getfixturevalue("s3"), URL
    (tmp_path / "model.ckpt").hardlink_to(gigabyte)
    server = request.getfixturevalue("web")
    return server, f"{server.url}/model.ckpt"


def traffic(server):
    """The (requests, bytes) since the list was emptied."""
    asked, server.asked[:] = list(server.asked), []
    return len(asked), sum(request.sent for request in asked)


def test_one_per_cent_costs_its_runs_and_three_requests(store):
    """With an index, ten values in three runs take at most six requests and 1.05 times their bytes."""
    server, url = store
    lazyckpt.build_index(url)
    traffic(server)
    with lazyckpt.load_checkpoint(url) as checkpoint:
        values = checkpoint.load(SMALL)
        requests, sent = traffic(server)

    np.testing.assert_equal(values, {name: value_of(name) for name in SMALL})
    assert requests <= RUNS + 3
    assert sent <= 1.05 * sum(SMALL.values())


def test_an_index_beside_the_object_costs_no_more(s3, indexed):
    """A new reader that finds the index beside the object needs no more requests than that."""
    with lazyckpt.load_checkpoint(URL) as checkpoint:
        checkpoint.load(SMALL)
        requests, sent = traffic(s3)

    assert requests <= RUNS + 3
    assert sent <= 1.05 * sum(SMALL.values()) + fsspec.filesystem("s3").size(f"{URL}.lmdb")


def test_the_command_says_where_the_index_is(indexed):
    """`index --upload` succeeds, and names the index beside the object."""
    said, _ = indexed

    assert (said.exit_code, said.stdout.split()[-1]) == (0, f"{URL}.lmdb")


def test_indexing_s3_reads_under_one_per_cent(indexed):
    """A first index needs only headers: less than a hundredth of the object is sent."""
    _, read = indexed

    assert 0 < read < sum(NAMES.values()) / 100


def test_indexing_the_web_reads_under_one_per_cent(web, gigabyte, tmp_path):
    """Indexing an object on a web server reads under one per cent."""
    (tmp_path / "model.ckpt").hardlink_to(gigabyte)
    lazyckpt.build_index(f"{web.url}/model.ckpt")

    assert 0 < traffic(web)[1] < sum(NAMES.values()) / 100


def test_values_one_by_one_are_sent_once(store):
    """A value is not requested again while it is in the cache."""
    server, url = store
    with lazyckpt.load_checkpoint(url) as checkpoint:
        checkpoint["layers.11.b"].asnumpy()
        traffic(server)
        checkpoint["layers.11.b"][3:5]

        assert traffic(server) == (0, 0)


def test_with_no_budget_nothing_is_kept(store):
    """`block_cache=0` keeps no fetched range in memory."""
    server, url = store
    with lazyckpt.load_checkpoint(url, block_cache=0) as checkpoint:
        checkpoint["layers.11.b"].asnumpy()
        traffic(server)
        checkpoint["layers.11.b"].asnumpy()

        assert traffic(server)[1] >= MIB
