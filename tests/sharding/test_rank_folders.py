"""The folders of checkpoints: names and sizes, and which folders are of ranks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lazyckpt.errors import ArgumentTypeError, ArgumentValueError, MissingFile, UnreadableFile, WrongFormat
from lazyckpt.sharding import rank_folders as module
from lazyckpt.sharding.members import Folder
from lazyckpt.sharding.rank_folders import content_of, listed, rank_folders, read_folder


def files(folder, *names):
    """Write files of one byte, with the folders that they need; returns the folder as a string."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return str(folder)


FOLDERS = ("far", "rank_0", "rank_1")


def test_a_folder_is_read_with_the_sizes_of_its_files(tmp_path):
    """Links are followed; links that lead nowhere or to a checkpoint beside them, and pipes, are left out."""
    folder = files(tmp_path, "a.ckpt", "rank_0/b.ckpt")
    (tmp_path / "empty.ckpt").touch()
    (tmp_path / "far").mkdir()
    (tmp_path / "link.ckpt").symlink_to(files(tmp_path, "far/c.ckpt") + "/far/c.ckpt")
    (tmp_path / "latest.ckpt").symlink_to("a.ckpt")
    (tmp_path / "rank_1").symlink_to("rank_0")
    (tmp_path / "gone.ckpt").symlink_to("none")
    os.mkfifo(tmp_path / "pipe.ckpt")

    assert read_folder(folder) == Folder(folder, {"a.ckpt": 1, "empty.ckpt": 0, "link.ckpt": 1}, FOLDERS)


def test_ranks_are_in_the_order_of_their_numbers(tmp_path):
    """Rank 10 comes after rank 2."""
    folder = files(tmp_path, *(f"rank_{number}/m.ckpt" for number in (10, 2, 0, 1)))

    assert list(rank_folders(read_folder(folder))) == [0, 1, 2, 10]


@pytest.mark.parametrize(
    "name",
    ["rank_/m.ckpt", "rank_1_old/m.ckpt", "xrank_1/m.ckpt", "rank_one/m.ckpt", "rank_1\n/m.ckpt", "rank_1",
     "rank_1/m.txt", "rank_1/.m.ckpt", "rank_1/m.ckpt.lmdb", "rank_1/inner/m.ckpt", "m-1_1.ckpt", "rank_²/m.ckpt"],
)  # fmt: skip
def test_other_names_belong_to_no_rank(name, tmp_path):
    """Neither other folders nor a file with a rank's name count, nor a rank's folder without a checkpoint."""
    assert list(rank_folders(read_folder(files(tmp_path, "rank_0/m.ckpt", name)))) == [0]


def test_two_folders_of_one_rank_are_refused(tmp_path):
    """Which one counts cannot be known; one without a checkpoint does no harm."""
    folder = files(tmp_path, "rank_1/m.ckpt", "rank_01/m.ckpt")
    with pytest.raises(ArgumentValueError, match=r"several .*rank_01, .*rank_1; both are of rank 1"):
        rank_folders(read_folder(folder))
    (tmp_path / "rank_01" / "m.ckpt").unlink()

    assert list(rank_folders(read_folder(folder))) == [1]


def test_the_checkpoints_of_a_folder_are_its_own_files(tmp_path):
    """Both formats, sorted by name, without hidden files, subfolders and their contents."""
    (tmp_path / "folder.ckpt").mkdir()
    folder = files(tmp_path, "b.ckpt", "a.safetensors", ".hidden.ckpt", "c.txt", "d.ckpt.lmdb", "folder.ckpt/e.ckpt")

    assert read_folder(folder).checkpoints() == ["a.safetensors", "b.ckpt"]


def test_a_folder_that_does_not_exist_is_a_missing_file(tmp_path):
    """The error names the folder."""
    with pytest.raises(MissingFile, match="none"):
        read_folder(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("given_paths", "paths"),
    [("a", ["a"]), (Path("a"), ["a"]), (["a", Path("b")], ["a", "b"]), (iter(["b", "a"]), ["b", "a"]), ([], [])],
    ids=["text", "path", "list", "iterator", "nothing"],
)
def test_one_path_or_several_become_a_list_of_strings(given_paths, paths):
    """A string is one path, not a list of its letters; several keep their order."""
    assert listed(given_paths) == paths


@pytest.mark.parametrize("wrong", [7, None, [7], ["a", None], b"a", [b"a"]], ids=repr)
def test_what_is_not_a_path_is_refused(wrong):
    """Numbers, None and bytes raise the error of a wrong argument."""
    with pytest.raises(ArgumentTypeError):
        listed(wrong)


@pytest.mark.parametrize("size", [0, 9, 10])
def test_a_description_of_a_run_is_read_as_a_whole(size, tmp_path, monkeypatch):
    """Up to the largest size."""
    monkeypatch.setattr(module, "LARGEST_FILE", 10)
    (tmp_path / "file").write_bytes(bytes(range(size)))

    assert content_of(str(tmp_path / "file"), "strategy file") == bytes(range(size))


def test_a_file_that_is_too_large_is_not_a_description_of_a_run(tmp_path, monkeypatch):
    """The error says so, with the kind of file that was expected and the path."""
    monkeypatch.setattr(module, "LARGEST_FILE", 10)
    (tmp_path / "file").write_bytes(bytes(11))

    with pytest.raises(WrongFormat, match=r"file: it is too large for a strategy file"):
        content_of(str(tmp_path / "file"), "strategy file")


def test_errors_name_the_kind_of_file(tmp_path):
    """Whether it does not exist or is a folder."""
    with pytest.raises(MissingFile, match=r"the group info file .*none does not exist"):
        content_of(str(tmp_path / "none"), "group info file")
    with pytest.raises(UnreadableFile, match=r"the group info file .* cannot be read"):
        content_of(str(tmp_path), "group info file")
