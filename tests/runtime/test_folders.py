"""A folder is held open, and the way to it follows no link of another user."""

from __future__ import annotations

import os

import pytest

from lazyckpt.errors import UnwritableFile
from lazyckpt.runtime.folders import Folder, held_path, resolved_output

STRANGER = 61_002
only_root = pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can give files away")


@pytest.fixture
def shared(tmp_path):
    """A folder in which others may write, with a folder `inside`, and a folder `elsewhere`."""
    folder = tmp_path / "shared"
    (folder / "inside").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    folder.chmod(0o777)
    return folder


def link(path, target, owner):
    """Make a link that belongs to a user."""
    path.symlink_to(target)
    os.chown(path, owner, owner, follow_symlinks=False)


PATHS = ("shared/new", "link/new", "link/../new", "./shared/../shared/inside", "absolute/new", "last", "chain/new")


@pytest.mark.parametrize("path", [*PATHS, "no/such/../folder", "file/new"])
def test_a_path_is_resolved_as_realpath_does(path, shared, monkeypatch):
    """The user's own links are followed, in the middle and at the end, relative and absolute."""
    monkeypatch.chdir(shared.parent)
    (shared.parent / "link").symlink_to("shared/inside")
    (shared.parent / "chain").symlink_to("link")
    (shared.parent / "absolute").symlink_to(shared)
    (shared.parent / "last").symlink_to("shared/dangling")
    (shared.parent / "file").touch()

    assert resolved_output(path) == os.path.realpath(path)


@only_root
@pytest.mark.parametrize("path", ["link", "link/new", "link/../../new", "way/link/new"])
def test_a_link_of_another_user_is_not_followed(path, shared):
    """In a folder that does not belong to its owner, a link is refused with its name, wherever it is in the path."""
    link(shared / "link", shared.parent / "elsewhere", STRANGER)
    (shared / "way").symlink_to(".")

    with pytest.raises(UnwritableFile, match=f"{shared}/(way/)?link is a link of another user .uid {STRANGER}."):
        resolved_output(str(shared / path))


@only_root
def test_a_folder_behind_a_link_of_another_user_is_not_opened(shared):
    """The same holds for the folder that a file is written in."""
    link(shared / "link", shared.parent / "elsewhere", STRANGER)

    with pytest.raises(UnwritableFile, match="link of another user"):
        Folder(str(shared / "link"))


@only_root
def test_the_owner_of_a_folder_may_link_in_it(shared):
    """A link that belongs to the owner of its folder is followed: in a folder of one's own, links are one's choice."""
    os.chown(shared, STRANGER, STRANGER)
    link(shared / "link", shared.parent / "elsewhere", STRANGER)

    assert resolved_output(str(shared / "link" / "new")) == str(shared.parent / "elsewhere" / "new")


def test_links_in_a_circle_are_refused(shared):
    """They are counted, not followed for ever."""
    (shared / "a").symlink_to("b")
    (shared / "b").symlink_to("a")

    with pytest.raises(UnwritableFile, match="circle"):
        resolved_output(str(shared / "a"))


@pytest.mark.parametrize(("name", "error"), [("none", FileNotFoundError), ("file", NotADirectoryError)])
def test_a_folder_that_is_none_is_refused(name, error, tmp_path):
    """A missing folder and a file are the system's errors."""
    (tmp_path / "file").touch()

    with pytest.raises(error):
        Folder(str(tmp_path / name))


def test_names_belong_to_the_folder_that_was_opened(shared):
    """After the folder was moved and a link has its path, files are created, compared, renamed and removed in it."""
    folder = Folder(str(shared / "inside"))
    (shared / "inside").rename(shared / "moved")
    (shared / "inside").symlink_to(shared.parent / "elsewhere")
    for name in ("one", "two"):
        os.close(folder.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR))
    folder.replace("one", "three")
    folder.unlink("two")
    folder.sync()
    is_same = folder.leads_to("three", (shared / "moved" / "three").stat())
    folder.close()

    assert is_same
    assert not folder.leads_to("three", shared.stat())
    assert (os.listdir(shared / "moved"), os.listdir(shared.parent / "elsewhere")) == (["three"], [])


def test_a_link_is_never_opened(shared):
    """A name that is a link gives an error, not the file that it leads to."""
    (shared / "target").touch()
    (shared / "link").symlink_to("target")
    folder = Folder(str(shared))
    try:
        with pytest.raises(OSError, match="symbolic links"):
            folder.open("link", os.O_RDWR)
    finally:
        folder.close()


def test_a_removed_folder_takes_no_other_with_it(shared):
    """If the name of a private folder leads to another folder by then, that one keeps what is in it."""
    folder = Folder(str(shared))
    made = folder.create("private")
    (shared / "private" / "deep").mkdir()
    (shared / "private" / "deep" / "file").touch()
    (shared / "private").rename(shared / "moved")
    (shared / "private").mkdir()
    (shared / "private" / "precious").touch()
    with pytest.raises(OSError, match="not empty"):
        folder.remove("private", made)
    made.close()
    folder.close()

    assert (os.listdir(shared / "moved"), os.listdir(shared / "private")) == ([], ["precious"])


def test_a_private_folder_is_removed_with_its_content(shared):
    """`create` makes a folder of mode 0700, and `remove` leaves nothing."""
    folder = Folder(str(shared))
    made = folder.create("private")
    mode = (shared / "private").stat().st_mode & 0o777
    (shared / "private" / "deep").mkdir()
    (shared / "private" / "deep" / "file").touch()
    folder.remove("private", made)
    made.close()
    folder.close()

    assert (mode, os.listdir(shared)) == (0o700, ["inside"])


def test_the_path_of_a_descriptor_leads_to_its_file(tmp_path):
    """It does so after the file was renamed, on systems with `/proc`; elsewhere the given path is used."""
    path = tmp_path / "file"
    path.touch()
    descriptor = os.open(path, os.O_RDONLY)
    path.rename(tmp_path / "renamed")
    held = held_path(descriptor, str(tmp_path / "renamed"))
    same = os.path.samestat(os.stat(held), os.fstat(descriptor))
    os.close(descriptor)

    assert same
    assert held_path(descriptor, "given") == "given"
