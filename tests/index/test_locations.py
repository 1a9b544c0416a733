"""The locations of sidecars."""

from __future__ import annotations

import os

import platformdirs
import pytest

from lazyckpt.index import locations


def test_a_sidecar_stands_beside_its_checkpoint():
    """The sidecar has the checkpoint's name and `.lmdb`."""
    assert locations.beside("/models/net.ckpt") == "/models/net.ckpt.lmdb"


def test_the_cache_folder_is_the_one_in_the_environment(cache_folder):
    """LAZYCKPT_CACHE names the folder for sidecars that cannot stand beside their file."""
    assert os.path.dirname(locations.cached("/models/net.ckpt")) == str(cache_folder)


def test_without_a_variable_the_cache_folder_is_the_users(monkeypatch, tmp_path):
    """An absent or empty variable means the platform's own cache folder."""
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name, appauthor: str(tmp_path / name))
    folders = []
    for set_it in (lambda: monkeypatch.setenv("LAZYCKPT_CACHE", ""), lambda: monkeypatch.delenv("LAZYCKPT_CACHE")):
        set_it()
        folders.append(os.path.dirname(locations.cached("/models/net.ckpt")))

    assert folders == [str(tmp_path / "lazyckpt" / "indexes")] * 2


def test_cached_names_are_of_paths():
    """Each path has its own name in the cache, always the same, with any characters."""
    paths = ["/a/net.ckpt", "/b/net.ckpt", "/a/netz.ckpt", "/a/\udcff.ckpt"]
    names = [locations.cached(path) for path in paths]

    assert len(set(names)) == len(paths)
    assert names == [locations.cached(path) for path in paths]


@pytest.mark.parametrize(
    ("kind", "answer"), [("nfs4", True), ("fuse.sshfs", True), ("ext4", False), ("unknown", False)]
)
def test_network_file_systems_are_known_by_name(kind, answer, monkeypatch):
    """A network path is recognized by the type of its file system."""
    monkeypatch.setattr(locations, "file_system", lambda path: kind)

    assert locations.on_network("/models/net.ckpt") is answer
