"""Where sidecars live, and that a file comes to its place whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import platformdirs
import pytest

from lazyckpt.index import place


def writes(data):
    """A filler that writes these bytes."""
    return lambda private: Path(private).write_bytes(data)


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


def test_a_file_is_put_in_its_place_with_its_mode(tmp_path):
    """After `put` the file has what was filled in and the mode that was asked for, and stands alone."""
    target = tmp_path / "index"
    place.put(str(target), writes(b"whole"), mode=0o440)

    assert target.read_bytes() == b"whole"
    assert stat.S_IMODE(target.stat().st_mode) == 0o440
    assert os.listdir(tmp_path) == ["index"]


def test_a_file_is_replaced_by_rename(tmp_path):
    """Who has the old file open keeps reading it."""
    target = tmp_path / "index"
    target.write_bytes(b"old")
    with target.open("rb") as old:
        place.put(str(target), writes(b"new"), mode=0o600)

        assert (old.read(), target.read_bytes()) == (b"old", b"new")


@pytest.mark.parametrize("fault", [OSError("full"), ValueError("bad"), KeyboardInterrupt()], ids=repr)
def test_a_failure_leaves_what_was_there_and_nothing_else(fault, tmp_path):
    """If filling fails in any way, the old file stands and the private one is gone."""
    target = tmp_path / "index"
    target.write_bytes(b"old")

    def fill(private):
        Path(private).write_bytes(b"half")
        raise fault

    with pytest.raises(type(fault)):
        place.put(str(target), fill, mode=0o600)
    assert (os.listdir(tmp_path), target.read_bytes()) == (["index"], b"old")


def test_what_a_killed_builder_left_is_taken_over(tmp_path):
    """The next builder finds the private file of one that died, empties it and uses it; no litter grows."""
    target = tmp_path / "index"

    def die(private):
        Path(private).write_bytes(b"half of it")
        os._exit(0)

    for _ in range(3):
        if (child := os.fork()) == 0:
            place.put(str(target), die, mode=0o600)
        os.waitpid(child, 0)
    left = os.listdir(tmp_path)
    seen = []
    place.put(str(target), lambda private: seen.append(Path(private).read_bytes()), mode=0o600)

    assert left == [".index.tmp"]
    assert seen == [b""]
    assert os.listdir(tmp_path) == ["index"]


def test_two_builders_at_once_have_files_of_their_own(tmp_path):
    """A builder that comes while another is at it takes a name of its own; both files are whole, the last one stays."""
    target = tmp_path / "index"
    seen = []

    def fill(private):
        Path(private).write_bytes(b"first")
        place.put(str(target), writes(b"second"), mode=0o600)
        seen.append(target.read_bytes())

    place.put(str(target), fill, mode=0o600)

    assert (seen, target.read_bytes()) == ([b"second"], b"first")
    assert os.listdir(tmp_path) == ["index"]


def test_a_private_file_that_was_renamed_away_is_not_written_to(tmp_path, monkeypatch):
    """If the other builder finishes between our open and our lock, its file is left alone."""
    target, usual = tmp_path / "index", tmp_path / ".index.tmp"
    lock = place.fcntl.flock

    def finish_first(descriptor, how):
        usual.write_bytes(b"theirs")
        usual.rename(target)
        monkeypatch.setattr(place.fcntl, "flock", lock)
        lock(descriptor, how)

    monkeypatch.setattr(place.fcntl, "flock", finish_first)
    with pytest.raises(OSError, match="no room"):
        place.put(str(target), raise_no_room, mode=0o600)

    assert target.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["index"]


def raise_no_room(private):
    """A filler that fails at once."""
    raise OSError("no room")


def test_without_locks_every_builder_has_a_name_of_its_own(tmp_path, monkeypatch):
    """Where there is no flock, files are put in place all the same."""
    monkeypatch.setattr(place, "fcntl", None)
    target = tmp_path / "index"
    place.put(str(target), writes(b"whole"), mode=0o600)

    assert (os.listdir(tmp_path), target.read_bytes()) == (["index"], b"whole")


def test_a_link_at_the_private_name_is_not_followed(tmp_path):
    """Whoever may write the folder cannot make a builder write elsewhere."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / ".index.tmp").symlink_to(victim)

    with pytest.raises(OSError, match="link"):
        place.put(str(tmp_path / "index"), writes(b"whole"), mode=0o600)
    assert victim.read_bytes() == b"precious"


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path):
    """A place that cannot be written is told as the system tells it."""
    with pytest.raises(FileNotFoundError):
        place.put(str(tmp_path / "none" / "index"), writes(b"whole"), mode=0o600)


def test_a_sidecar_is_copied_into_the_cache(tmp_path, cache_folder):
    """The copy stands in the cache folder under the checkpoint's name there, for its owner alone."""
    sidecar = tmp_path / "net.ckpt.lmdb"
    sidecar.write_bytes(b"whole")
    copy = place.copy_to_cache("/models/net.ckpt", str(sidecar))

    assert (copy, Path(copy).read_bytes()) == (place.cached("/models/net.ckpt"), b"whole")
    assert [stat.S_IMODE(os.stat(one).st_mode) for one in (copy, cache_folder)] == [0o600, 0o700]
