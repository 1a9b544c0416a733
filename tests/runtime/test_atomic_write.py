"""A file comes to its place whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from lazyckpt.errors import UnwritableFile
from lazyckpt.runtime import atomic_write as atomic_write_module
from lazyckpt.runtime.atomic_write import atomic_write, make_private_folders, temporary


def writes(data):
    """A filler that writes these bytes."""
    return lambda private: Path(private).write_bytes(data)


def test_a_file_is_put_in_its_place_with_its_mode(tmp_path):
    """After `atomic_write` the file has what was filled in and the mode that was asked for, and stands alone."""
    target = tmp_path / "index"
    atomic_write(str(target), writes(b"whole"), mode=0o440)

    assert target.read_bytes() == b"whole"
    assert stat.S_IMODE(target.stat().st_mode) == 0o440
    assert os.listdir(tmp_path) == ["index"]


@pytest.mark.parametrize(("before", "after"), [(None, 0o644), (0o600, 0o600), (0o440, 0o440)])
def test_a_file_has_the_mode_of_what_was_there(before, after, tmp_path):
    """Where no mode is asked for: that of the old file, or one that lets all read."""
    target = tmp_path / "table"
    if before is not None:
        target.touch(before)
    atomic_write(str(target), writes(b"new"))

    assert (target.read_bytes(), stat.S_IMODE(target.stat().st_mode)) == (b"new", after)


def test_a_file_is_replaced_by_rename(tmp_path):
    """Who has the old file open keeps reading it."""
    target = tmp_path / "index"
    target.write_bytes(b"old")
    with target.open("rb") as old:
        atomic_write(str(target), writes(b"new"), mode=0o600)

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
        atomic_write(str(target), fill, mode=0o600)
    assert (os.listdir(tmp_path), target.read_bytes()) == (["index"], b"old")


def test_what_a_killed_writer_left_is_removed(tmp_path):
    """The next writer removes the private file of one that died and makes its own; no litter grows."""
    target = tmp_path / "index"

    def die(private):
        Path(private).write_bytes(b"half of it")
        os._exit(0)

    for _ in range(3):
        if (child := os.fork()) == 0:
            atomic_write(str(target), die, mode=0o600)
        os.waitpid(child, 0)
    left = os.listdir(tmp_path)
    seen = []
    atomic_write(str(target), lambda private: seen.append(Path(private).read_bytes()), mode=0o600)

    assert left in ([".index.tmp"], [".index.1.tmp"])
    assert seen == [b""]
    assert os.listdir(tmp_path) == ["index"]


def test_two_writers_at_once_have_files_of_their_own(tmp_path):
    """A writer that comes while another is at it takes a name of its own; both files are whole, the last one stays."""
    target = tmp_path / "index"
    seen = []

    def fill(private):
        Path(private).write_bytes(b"first")
        atomic_write(str(target), writes(b"second"), mode=0o600)
        seen.append(target.read_bytes())

    atomic_write(str(target), fill, mode=0o600)

    assert (seen, target.read_bytes()) == ([b"second"], b"first")
    assert os.listdir(tmp_path) == ["index"]


def test_a_private_file_that_was_renamed_away_is_not_written_to(tmp_path, monkeypatch):
    """If the other writer finishes between our open and our lock, its file is left alone."""
    target, usual = tmp_path / "index", tmp_path / ".index.tmp"
    lock = atomic_write_module.fcntl.flock

    def finish_first(descriptor, how):
        usual.write_bytes(b"theirs")
        usual.rename(target)
        monkeypatch.setattr(atomic_write_module.fcntl, "flock", lock)
        lock(descriptor, how)

    monkeypatch.setattr(atomic_write_module.fcntl, "flock", finish_first)
    with pytest.raises(OSError, match="no room"):
        atomic_write(str(target), raise_no_room, mode=0o600)

    assert target.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["index"]


def raise_no_room(private):
    """A filler that fails at once."""
    raise OSError("no room")


def test_without_locks_every_writer_has_a_name_of_its_own(tmp_path, monkeypatch):
    """Where there is no flock, files are put in place all the same."""
    monkeypatch.setattr(atomic_write_module, "fcntl", None)
    target = tmp_path / "index"
    atomic_write(str(target), writes(b"whole"), mode=0o600)

    assert (os.listdir(tmp_path), target.read_bytes()) == (["index"], b"whole")


def test_a_link_at_the_private_name_is_not_followed(tmp_path):
    """A link of the user at a private name is removed, and what it leads to is not written to."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / ".index.tmp").symlink_to(victim)
    atomic_write(str(tmp_path / "index"), writes(b"whole"), mode=0o600)

    assert (victim.read_bytes(), (tmp_path / "index").read_bytes()) == (b"precious", b"whole")
    assert sorted(os.listdir(tmp_path)) == ["index", "victim"]


@pytest.mark.parametrize("swap", ["link", "file", "nothing"])
def test_a_private_file_that_was_swapped_is_not_renamed(swap, tmp_path):
    """If the private name leads to another file, or to none, the target stays and the error says why."""
    victim, target = tmp_path / "victim", tmp_path / "index"
    victim.write_bytes(b"precious")
    target.write_bytes(b"old")

    def fill(private):
        os.unlink(tmp_path / ".index.tmp")
        if swap == "link":
            (tmp_path / ".index.tmp").symlink_to(victim)
        elif swap == "file":
            (tmp_path / ".index.tmp").write_bytes(b"theirs")
        Path(private).write_bytes(b"new")

    with pytest.raises(UnwritableFile, match=r"temporary file \.index\.tmp"):
        atomic_write(str(target), fill, mode=0o600)
    assert (victim.read_bytes(), target.read_bytes()) == (b"precious", b"old")


def test_a_folder_that_is_swapped_changes_nothing(tmp_path):
    """The file stays in the folder that was opened, also if another folder or a link has its path by then."""
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()

    def fill(private):
        folder.rename(tmp_path / "moved")
        folder.symlink_to(elsewhere)
        Path(private).write_bytes(b"whole")

    atomic_write(str(folder / "index"), fill, mode=0o600)

    assert (os.listdir(elsewhere), os.listdir(tmp_path / "moved")) == ([], ["index"])


@pytest.mark.parametrize("umask", [0, 0o077, 0o777], ids=oct)
def test_no_umask_changes_the_modes(umask, tmp_path):
    """The temporary file is private and the finished one has the mode asked for, with any umask."""
    seen, before = [], os.umask(umask)
    try:
        atomic_write(str(tmp_path / "a"), lambda private: seen.append(os.stat(private).st_mode & 0o777), mode=0o640)
        make_private_folders(str(tmp_path / "b" / "c"))
    finally:
        os.umask(before)
    found = [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "b", "b/c")]

    assert (seen, found) == ([0o600], [0o640, 0o700, 0o700])


def test_a_finished_file_that_was_never_renamed_is_removed(tmp_path):
    """A writer that was killed right before its rename leaves a read-only file; the next one removes it."""
    (tmp_path / ".index.tmp").touch(0o400)
    atomic_write(str(tmp_path / "index"), writes(b"whole"), mode=0o600)

    assert os.listdir(tmp_path) == ["index"]


def test_a_file_with_another_name_is_not_written_to(tmp_path):
    """A hard link at the private name leaves the file that it leads to alone, and is taken away."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    os.link(victim, tmp_path / ".index.tmp")
    atomic_write(str(tmp_path / "index"), writes(b"whole"), mode=0o600)

    assert (victim.read_bytes(), (tmp_path / "index").read_bytes()) == (b"precious", b"whole")
    assert sorted(os.listdir(tmp_path)) == ["index", "victim"]


def test_a_pipe_at_the_private_name_is_taken_away(tmp_path):
    """It is neither waited for nor written to."""
    os.mkfifo(tmp_path / ".index.tmp")
    atomic_write(str(tmp_path / "index"), writes(b"whole"), mode=0o600)

    assert os.listdir(tmp_path) == ["index"]


def test_a_private_file_that_cannot_be_prepared_is_no_litter(tmp_path, monkeypatch):
    """A disk that fails at the first call leaves no file and no descriptor behind."""
    before = len(os.listdir("/proc/self/fd"))

    def fail(descriptor, mode):
        raise OSError("no space")

    monkeypatch.setattr(os, "fchmod", fail)
    with pytest.raises(OSError, match="no space"):
        atomic_write(str(tmp_path / "index"), writes(b"whole"), mode=0o600)

    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path):
    """A place that cannot be written is told as the system tells it."""
    with pytest.raises(FileNotFoundError):
        atomic_write(str(tmp_path / "none" / "index"), writes(b"whole"), mode=0o600)


def test_what_a_second_killed_writer_left_is_taken_away(tmp_path):
    """A writer that died beside another had a name of its own; the next one that finishes removes the file."""
    target = tmp_path / "index"
    with temporary(str(target)):
        if (child := os.fork()) == 0:
            atomic_write(str(target), lambda private: os._exit(0), mode=0o600)
        os.waitpid(child, 0)
        left = sorted(os.listdir(tmp_path))
    atomic_write(str(target), writes(b"whole"), mode=0o600)

    assert left == [".index.1.tmp", ".index.tmp"]
    assert os.listdir(tmp_path) == ["index"]


def test_many_writers_at_once_run_out_of_lasting_names_and_still_write(tmp_path):
    """The ninth writer takes a name that nobody ever had."""
    target = tmp_path / "index"

    def nested(depth):
        with temporary(str(target)) as made:
            if depth:
                nested(depth - 1)
            Path(made.path).write_bytes(b"%d" % depth)
            made.commit(0o600)

    nested(atomic_write_module._NAMES)

    assert (os.listdir(tmp_path), target.read_bytes()) == (["index"], b"8")


def test_a_draft_that_was_not_placed_is_gone(tmp_path):
    """What nobody put in its place does not stay."""
    with temporary(str(tmp_path / "index")) as made:
        Path(made.path).write_bytes(b"half")

    assert os.listdir(tmp_path) == []


def test_a_durable_file_is_synced_before_it_is_renamed(tmp_path, monkeypatch):
    """First the bytes reach the disk, then the name, then the folder is synced."""
    target, order = tmp_path / "net.ckpt", []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("sync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *names, **at: (order.append("rename"), replace(*names, **at)))
    with temporary(str(target)) as made:
        made.commit(0o400, durable=True)

    assert order == ["sync", "rename", "sync"]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK], ids=errno.errorcode.get)
def test_a_file_system_without_locks_is_not_littered(code, tmp_path, monkeypatch):
    """Where locking fails for good, a writer takes a name that nobody ever had, and leaves no other behind."""

    def refuse(descriptor, how):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(atomic_write_module.fcntl, "flock", refuse)
    target = tmp_path / "index"
    for data in (b"one", b"two"):
        atomic_write(str(target), writes(data), mode=0o600)

    assert (os.listdir(tmp_path), target.read_bytes()) == (["index"], b"two")


def test_a_folder_that_cannot_be_synced_is_no_failure(tmp_path, monkeypatch):
    """A folder that may be written and not read: the file is in its place, and nobody is told that it is not."""
    target, opened = tmp_path / "index", os.open

    def open_(path, flags, *rest, **at):
        if path == "." and not flags & os.O_PATH:
            raise PermissionError(errno.EACCES, "no reading here")
        return opened(path, flags, *rest, **at)

    monkeypatch.setattr(os, "open", open_)
    with temporary(str(target)) as made:
        Path(made.path).write_bytes(b"whole")
        made.commit(0o600, durable=True)

    assert target.read_bytes() == b"whole"
