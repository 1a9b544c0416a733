"""The files of a distributed checkpoint: one of each rank's folder, and nothing else that lies beside them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sharded_sets import facts, opened, truth

from lazyckpt.errors import ArgumentTypeError, MissingFile, UnreadableFile, WrongFormat
from lazyckpt.sharding import rank_folders
from lazyckpt.sharding.rank_folders import checkpoints_in, content_of, listed, need, rank_files

_steps = st.tuples(st.integers(0, 10**6), st.integers(0, 10**6))


def files(folder, *names):
    """Write empty files, with the folders that they need; returns the folder as a string."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return str(folder)


def names_of(found):
    """Paths without their folder."""
    return [os.path.basename(path) for path in found]


@given(st.sets(_steps, min_size=1, max_size=8))
def test_the_file_of_the_newest_step_counts(steps):
    """Epoch and step are compared as numbers, the epoch first: `m-10_1` is newer than `m-9_5`."""
    with tempfile.TemporaryDirectory() as folder:
        files(Path(folder), "rank_0/m.ckpt", *(f"rank_0/m-{epoch}_{step}.ckpt" for epoch, step in steps))
        found = rank_files(folder)

    assert names_of(found.values()) == ["m-{}_{}.ckpt".format(*max(steps))]


def test_the_newest_file_of_a_recorded_rank_counts():
    """Of `m-9_1` and `m-10_1` the latter, although its name comes first."""
    with opened("damaged/two_files") as ckpt:
        assert facts(ckpt["w"].asnumpy())[1] == truth("damaged/two_files")["w"]["sha256"]


def test_ranks_are_in_the_order_of_their_numbers(tmp_path):
    """Rank 10 comes after rank 2."""
    folder = files(tmp_path, *(f"rank_{number}/m.ckpt" for number in (10, 2, 0, 1)))

    assert list(rank_files(folder)) == [0, 1, 2, 10]


@pytest.mark.parametrize(
    "name",
    ["rank_/m.ckpt", "rank_1_old/m.ckpt", "xrank_1/m.ckpt", "rank_one/m.ckpt", "rank_1\n/m.ckpt", "rank_1",
     "rank_1/m.txt", "rank_1/.m.ckpt", "rank_1/m.ckpt.lmdb", "rank_1/inner/m.ckpt", "m-1_1.ckpt"],
)  # fmt: skip
def test_other_names_belong_to_no_rank(name, tmp_path):
    """Neither other folders nor a file with a rank's name count, nor a rank's folder without a checkpoint."""
    assert list(rank_files(files(tmp_path, "rank_0/m.ckpt", name))) == [0]


def test_the_checkpoints_of_a_folder_are_its_own_files(tmp_path):
    """Both formats, sorted by name, without hidden files, subfolders and their contents."""
    (tmp_path / "folder.ckpt").mkdir()
    folder = files(tmp_path, "b.ckpt", "a.safetensors", ".hidden.ckpt", "c.txt", "d.ckpt.lmdb", "folder.ckpt/e.ckpt")

    assert names_of(checkpoints_in(folder)) == ["a.safetensors", "b.ckpt"]


def test_a_folder_that_does_not_exist_is_a_missing_file(tmp_path):
    """The error names the folder."""
    with pytest.raises(MissingFile, match="none"):
        rank_files(str(tmp_path / "none"))


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


def test_no_files_at_all_is_an_error():
    """The error names the place and both endings; a list that is not empty is returned as it is."""
    assert need(["a.ckpt"], "here") == ["a.ckpt"]
    with pytest.raises(MissingFile, match=r"no checkpoint \(\.ckpt or \.safetensors\) in here"):
        need([], "here")


@pytest.mark.parametrize("size", [0, 9, 10])
def test_a_description_of_a_run_is_read_as_a_whole(size, tmp_path, monkeypatch):
    """Up to the largest size."""
    monkeypatch.setattr(rank_folders, "LARGEST_FILE", 10)
    (tmp_path / "file").write_bytes(bytes(range(size)))

    assert content_of(str(tmp_path / "file"), "strategy file") == bytes(range(size))


def test_a_file_that_is_too_large_is_not_a_description_of_a_run(tmp_path, monkeypatch):
    """The error says so, with the kind of file that was expected and the path."""
    monkeypatch.setattr(rank_folders, "LARGEST_FILE", 10)
    (tmp_path / "file").write_bytes(bytes(11))

    with pytest.raises(WrongFormat, match=r"file: it is too large for a strategy file"):
        content_of(str(tmp_path / "file"), "strategy file")


def test_errors_name_the_kind_of_file(tmp_path):
    """Whether it does not exist or is a folder."""
    with pytest.raises(MissingFile, match=r"the group info file .*none does not exist"):
        content_of(str(tmp_path / "none"), "group info file")
    with pytest.raises(UnreadableFile, match=r"the group info file .* cannot be read"):
        content_of(str(tmp_path), "group info file")
