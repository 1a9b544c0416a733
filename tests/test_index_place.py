"""Where sidecars live."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import platformdirs
import pytest
from entries import MARK
from store_contract import MIXED

from lazyckpt.index import place, write
from lazyckpt.index.record import BadRecord, Meta


def test_a_sidecar_stands_beside_its_checkpoint():
    """Its name is the checkpoint's and `.lmdb`."""
    assert place.beside("/models/net.ckpt") == "/models/net.ckpt.lmdb"


def test_the_cache_folder_is_the_one_in_the_environment(cache_folder):
    """LAZYCKPT_CACHE names the folder in which sidecars stand that have no other place."""
    assert os.path.dirname(place.cached("/models/net.ckpt")) == str(cache_folder)


def test_without_a_variable_the_cache_folder_is_the_users(monkeypatch, tmp_path):
    """An absent or empty variable means the platform's own place for caches."""
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name, appauthor: str(tmp_path / name))
    folders = []
    for set_it in (lambda: monkeypatch.setenv("LAZYCKPT_CACHE", ""), lambda: monkeypatch.delenv("LAZYCKPT_CACHE")):
        set_it()
        folders.append(os.path.dirname(place.cached("/models/net.ckpt")))

    assert folders == [str(tmp_path / "lazyckpt" / "indexes")] * 2


def test_cached_names_are_of_paths():
    """Each path has its own name in the cache, always the same, whatever its characters."""
    paths = ["/a/net.ckpt", "/b/net.ckpt", "/a/netz.ckpt", "/a/\udcff.ckpt"]
    names = [place.cached(path) for path in paths]

    assert len(set(names)) == len(paths)
    assert names == [place.cached(path) for path in paths]


@pytest.mark.parametrize(
    ("kind", "answer"), [("nfs4", True), ("fuse.sshfs", True), ("ext4", False), ("unknown", False)]
)
def test_network_file_systems_are_known_by_name(kind, answer, monkeypatch):
    """Whether a path lies on a network is told by the type of its file system."""
    monkeypatch.setattr(place, "file_system", lambda path: kind)

    assert place.on_network("/models/net.ckpt") is answer


def test_a_sidecar_is_copied_into_the_cache(tmp_path, cache_folder):
    """The copy stands in the cache folder under the checkpoint's name there, for its owner alone."""
    sidecar = tmp_path / "net.ckpt.lmdb"
    write.write(str(sidecar), MIXED, Meta(MARK))
    copy = place.copy_to_cache("/models/net.ckpt", str(sidecar))

    assert (copy, Path(copy).read_bytes()) == (place.cached("/models/net.ckpt"), sidecar.read_bytes())
    assert [stat.S_IMODE(os.stat(one).st_mode) for one in (copy, cache_folder)] == [0o600, 0o700]


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path), Path.touch])
def test_what_is_no_sidecar_is_not_copied(make, tmp_path, cache_folder):
    """A pipe, a device that has no end, an empty file: refused at once, and nothing is written."""
    make(tmp_path / "net.ckpt.lmdb")
    with pytest.raises(BadRecord):
        place.copy_to_cache("/models/net.ckpt", str(tmp_path / "net.ckpt.lmdb"))

    assert not cache_folder.exists()
