"""Objects in real stores: opened by URL, read by ranges, always of one version."""

from __future__ import annotations

import os
import pickle

import fsspec
import numpy as np
import pytest
from checkpoints import LAYERS, checkpoint
from forking import ended, forked
from source_contract import SourceContract
from typer.testing import CliRunner

import lazyckpt
from lazyckpt import cli
from lazyckpt.errors import ChangedFile, MissingFile, UnreadableFile
from lazyckpt.explore.find import find
from lazyckpt.explore.verify import verify
from lazyckpt.sources import remote
from lazyckpt.sources.remote import open_remote

MIB = 2**20
EIGHT = {f"layers.{number}.weight": np.full((256, 1024), number, np.float32) + np.arange(1024) for number in range(8)}


def put(url, data):
    """Write an object to any store."""
    fs, path = fsspec.core.url_to_fs(url)
    fs.pipe_file(path, data)
    return url


def saved(folder, values=EIGHT, name="model.ckpt", **how):
    """The path of a checkpoint in a folder."""
    path = folder / name
    lazyckpt.save_checkpoint(values, str(path), **how)
    return path


def requests(server):
    """The server's requests since its list was emptied."""
    asked, server.asked[:] = list(server.asked), []
    return asked


class TestS3Source(SourceContract):
    """The contract of a source, for objects on S3."""

    @pytest.fixture(autouse=True)
    def _place(self, s3_url):
        self.url = s3_url

    def make(self, data, folder):
        """An object in the bucket."""
        return open_remote(put(f"{self.url}/x.bin", data), 0)[0]


class TestWebSource(SourceContract):
    """The contract of a source, for files on a web server."""

    @pytest.fixture(autouse=True)
    def _server(self, web):
        self.server = web

    def make(self, data, folder):
        """Makes a file in the served folder."""
        (folder / "x.bin").write_bytes(data)
        return open_remote(f"{self.server.url}/x.bin", MIB)[0]


class TestMemorySource(SourceContract):
    """The contract of a source, for another file system of fsspec's."""

    def make(self, data, folder):
        """An object in memory."""
        return open_remote(put("memory://contract/x.bin", data), 100_000)[0]


@pytest.fixture(params=["s3", "web", "memory"])
def place(request, tmp_path):
    """Writes bytes to each kind of store; returns the URL."""
    if request.param == "web":
        server = request.getfixturevalue("web")

        def store(data, name="model.ckpt"):
            (tmp_path / name).write_bytes(data)
            return f"{server.url}/{name}"

        return store
    folder = request.getfixturevalue("s3_url") if request.param == "s3" else f"memory://{tmp_path.name}"
    return lambda data, name="model.ckpt": put(f"{folder}/{name}", data)


@pytest.mark.parametrize("name", ["model.ckpt", "model.safetensors"])
def test_values_are_those_of_the_file(place, tmp_path, name):
    """Each value, its rows, and all values together equal the saved ones."""
    (tmp_path / "here").mkdir()
    form = name.rpartition(".")[2]
    url = place(saved(tmp_path / "here", name=name, format=form).read_bytes(), name)
    with lazyckpt.load_checkpoint(url, format=form) as checkpoint:
        assert checkpoint.path == url
        assert list(checkpoint) == list(EIGHT)
        np.testing.assert_equal({name: checkpoint[name].asnumpy() for name in EIGHT}, EIGHT)
        np.testing.assert_equal(checkpoint["layers.3.weight"][7:9], EIGHT["layers.3.weight"][7:9])
        np.testing.assert_equal(checkpoint.load(), EIGHT)


@pytest.mark.parametrize("mode", ["AES-GCM", "AES-CBC"])
def test_encrypted_objects_are_decrypted_here(place, tmp_path, mode):
    """A key opens an object as it opens a file, also with an existing index."""
    key = b"0123456789abcdef"
    (tmp_path / "here").mkdir()
    url = place(saved(tmp_path / "here", enc_key=key, enc_mode=mode).read_bytes())
    for _ in range(2):
        with lazyckpt.load_checkpoint(url, dec_key=key, dec_mode=mode) as checkpoint:
            np.testing.assert_equal(checkpoint.load(["layers.5.weight"]), {"layers.5.weight": EIGHT["layers.5.weight"]})


def test_a_replaced_object_is_noticed(place, tmp_path):
    """A value requested after the object was overwritten is an error, though every header is the same."""
    (tmp_path / "here").mkdir()
    url = place(saved(tmp_path / "here").read_bytes())
    with lazyckpt.load_checkpoint(url) as checkpoint:
        os.utime(tmp_path, (1, 1))
        other = {name: value + 1 for name, value in EIGHT.items()}
        data = saved(tmp_path / "here", other, "other.ckpt").read_bytes()
        place(data)
        if url.startswith("http"):
            os.utime(tmp_path / "model.ckpt", (2_000_000_000, 2_000_000_000))

        with pytest.raises(ChangedFile, match="replaced since it was opened"):
            checkpoint["layers.6.weight"].asnumpy()


def test_the_new_version_is_indexed_anew(place, tmp_path, walks, cache_folder):
    """The next version is scanned once, and its index replaces the old one."""
    (tmp_path / "here").mkdir()
    url = place(saved(tmp_path / "here").read_bytes())
    lazyckpt.load_checkpoint(url).close()
    place(saved(tmp_path / "here", {"other": EIGHT["layers.0.weight"]}, "other.ckpt").read_bytes())
    for _ in range(2):
        with lazyckpt.load_checkpoint(url) as checkpoint:
            assert list(checkpoint) == ["other"]

    assert (len(walks), len(list(cache_folder.iterdir()))) == (2, 1)


def test_an_object_that_is_not_there_is_missing(place):
    """The error is a `FileNotFoundError`, and names the URL."""
    url = place(b"").replace("model.ckpt", "absent.ckpt")
    with pytest.raises(MissingFile, match=r"absent\.ckpt does not exist"):
        lazyckpt.load_checkpoint(url)


def test_a_forked_child_connects_by_itself(place, tmp_path):
    """A forked child reads objects that were opened before the fork, as its parent does."""
    (tmp_path / "here").mkdir()
    url = place(saved(tmp_path / "here").read_bytes())
    with lazyckpt.load_checkpoint(url) as checkpoint:
        child = forked(
            lambda: np.testing.assert_array_equal(checkpoint["layers.2.weight"].asnumpy(), EIGHT["layers.2.weight"])
        )

        assert ended(child) == 0


def test_a_server_without_ranges_is_refused(plain_web, tmp_path):
    """Such a server would send the whole file for each value, so it is refused before one file's bytes are read."""
    path = tmp_path / "model.ckpt"
    saved(tmp_path, {f"w{number}": np.zeros(2 * MIB, np.float32) for number in range(8)})
    with pytest.raises(UnreadableFile, match=r"does not support ranges.*download it"):
        lazyckpt.load_checkpoint(f"{plain_web.url}/model.ckpt")["w7"].asnumpy()

    assert plain_web.sent < path.stat().st_size


def test_a_signed_address_is_never_shown(web, tmp_path):
    """The query of the URL opens the object, and is in no name and no message."""
    saved(tmp_path)
    url = f"{web.url}/model.ckpt?signature=5ecret"
    with lazyckpt.load_checkpoint(url) as checkpoint:
        shown = [checkpoint.path, str(checkpoint.index.path), repr(checkpoint)]
        os.remove(tmp_path / "model.ckpt")
        with pytest.raises(ChangedFile) as gone:
            checkpoint["layers.1.weight"].asnumpy()
    with pytest.raises((MissingFile, UnreadableFile)) as missing:
        lazyckpt.load_checkpoint(url)

    assert not [text for text in [*shown, str(gone.value), str(missing.value)] if "5ecret" in text]


@pytest.mark.parametrize("dec_key", [None, lazyckpt.KeyReference(variable="KEY_OF_AN_OBJECT")])
def test_a_handle_is_opened_by_another_process(place, tmp_path, dec_key, monkeypatch):
    """A checkpoint and its values are pickled as a URL, whatever index they used."""
    monkeypatch.setenv("KEY_OF_AN_OBJECT", "0123456789abcdef")
    (tmp_path / "here").mkdir()
    key = None if dec_key is None else b"0123456789abcdef"
    url = place(saved(tmp_path / "here", enc_key=key).read_bytes())
    with lazyckpt.load_checkpoint(url, dec_key=dec_key) as checkpoint:
        sent = pickle.dumps([checkpoint, checkpoint["layers.2.weight"]])
    monkeypatch.setenv("LAZYCKPT_CACHE", str(tmp_path / "another cache"))
    there, value = pickle.loads(sent)

    np.testing.assert_equal(
        [value.asnumpy(), there["layers.6.weight"][3]], [EIGHT["layers.2.weight"], EIGHT["layers.6.weight"][3]]
    )
    assert b"0123456789abcdef" not in sent


def test_a_handle_of_another_version_is_refused(place, tmp_path):
    """A pickle of one version does not open the next."""
    (tmp_path / "here").mkdir()
    url = place(saved(tmp_path / "here").read_bytes())
    with lazyckpt.load_checkpoint(url) as checkpoint:
        sent = pickle.dumps(checkpoint)
    place(saved(tmp_path / "here", {name: value + 1 for name, value in EIGHT.items()}, "other.ckpt").read_bytes())
    if url.startswith("http"):
        os.utime(tmp_path / "model.ckpt", (2_000_000_000, 2_000_000_000))

    with pytest.raises(ChangedFile):
        pickle.loads(sent)["layers.2.weight"].asnumpy()


def test_the_index_of_an_object_that_proves_damaged_is_built_again(tmp_path):
    """It is rebuilt from the object, in the cache; the reader continues, and the next one finds a sound index."""
    url = put("memory://damaged/net.ckpt", checkpoint(LAYERS))
    with lazyckpt.load_checkpoint(url) as ckpt:
        os.truncate(ckpt.index.path, 0)
        names = list(ckpt)
        path = ckpt.index.path
    index = lazyckpt.build_index(url)

    assert (names, list(index), index.path) == (list(LAYERS), list(LAYERS), path)
    index.close()


LOOKS = {
    "find": lambda url: [found.error for found in find("*.none", [url])],
    "verify": lambda url: verify(url).intact,
    "build_indexes": lambda url: [built.error for built in lazyckpt.build_indexes([url])],
    "ls": lambda url: CliRunner().invoke(cli.app, ["ls", url]).exit_code,
    "index": lambda url: CliRunner().invoke(cli.app, ["index", url]).exit_code,
    "diff": lambda url: CliRunner().invoke(cli.app, ["diff", url, url]).exit_code,
    "convert": lambda url: CliRunner().invoke(cli.app, ["convert", url, "out.ckpt"]).exit_code,
}


@pytest.mark.parametrize("look", LOOKS)
def test_an_object_is_opened_once(look, tmp_path, monkeypatch):
    """The open that detects the encryption mode also serves all reads."""
    monkeypatch.chdir(tmp_path)
    url = put("memory://once/net.ckpt", checkpoint(LAYERS))
    opened = []
    real = remote.RemoteObject.__init__

    def counted(self, url):
        opened.append(url)
        real(self, url)

    monkeypatch.setattr(remote.RemoteObject, "__init__", counted)
    outcome = LOOKS[look](url)

    assert (outcome, len(opened)) in [([], 1), ([""], 1), (True, 1), (0, 1 + (look == "diff"))]
