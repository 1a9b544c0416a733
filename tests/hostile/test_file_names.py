"""File names that read like URLs or lead elsewhere: what a file or a folder names is inside the folder."""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest
from checkpoints import checkpoint
from safetensors_files import file_of

import lazyckpt
from lazyckpt.errors import CorruptFile, MissingFile
from lazyckpt.index.batch import build_indexes, find_checkpoints
from lazyckpt.loading import open_all
from lazyckpt.sharding.weight_map import files_of

# Each is a file on a disk; for fsspec some of them are a chain of file systems.
LIKE_URLS = [f"{protocol}::part.ckpt" for protocol in ("memory", "simplecache", "file", "local", "reference", "zip")]
ODD = [
    *LIKE_URLS, "memory:x.ckpt", "C:part.ckpt", "~root.ckpt", "%2e%2e%2fpart.ckpt", "a?b#c.ckpt", "-o.ckpt", "[a].ckpt",
]  # fmt: skip
OUTSIDE = [
    "..",
    ".",
    "",
    "/etc/hostname",
    "../part.ckpt",
    "memory://part.ckpt",
    "file:///etc/hostname",
    "a\0b",
    "..\\x",
]
VALUES = {"inside": np.arange(6, dtype=np.float32)}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder: relative names stand alone, as they do in a listing opened from its own folder."""
    inside = tmp_path / "run"
    inside.mkdir()
    (tmp_path / "part.ckpt").write_bytes(checkpoint({"outside": np.zeros(1)}))
    monkeypatch.chdir(inside)
    return inside


def listing(folder, part):
    """A listing whose only part has this name, and may exist."""
    (folder / "net.ckpt.index.json").write_text(json.dumps({"weight_map": {"inside": part}}))
    return "net.ckpt.index.json"


@pytest.mark.parametrize("part", ODD)
def test_a_part_is_a_file_beside_its_listing(part, folder):
    """A part that is called like a URL, a drive, a pattern or an option is opened as the file that it is."""
    (folder / part).write_bytes(checkpoint(VALUES))
    path = listing(folder, part)
    with lazyckpt.load_checkpoint(path) as one, open_all(path) as two, pickle.loads(pickle.dumps(two)) as three:
        np.testing.assert_equal([one.load(), two.load(), three.load()], [VALUES] * 3)


@pytest.mark.parametrize("part", ODD)
def test_a_part_that_is_not_there_is_looked_for_nowhere_else(part, folder):
    """The error names the part as a missing file of the folder."""
    path = listing(folder, part)
    for call in (lazyckpt.load_checkpoint, open_all):
        with pytest.raises(MissingFile, match=r"its part .* does not exist"):
            call(path)


@pytest.mark.parametrize("part", OUTSIDE)
def test_a_part_outside_the_folder_is_refused(part, folder):
    """Neither opening nor naming the parts leaves the folder."""
    for call in (lazyckpt.load_checkpoint, open_all, files_of):
        with pytest.raises(CorruptFile, match="outside its folder"):
            call(listing(folder, part))


@pytest.mark.parametrize("name", LIKE_URLS[:2])
@pytest.mark.parametrize("command", ["ls", "show", "tree", "stats", "verify", "doctor", "index", "find", "diff"])
def test_commands_take_what_the_shell_names_as_files(command, name, folder, run):
    """`lazyckpt COMMAND *` opens the files that the shell found."""
    (folder / name).write_bytes(checkpoint(VALUES))
    arguments = {"show": [name, "inside"], "find": ["inside", name], "diff": [name, name]}.get(command, [name])
    code, _, complaints = run(command, *arguments)

    assert (code, complaints) == (0, "")


@pytest.mark.parametrize("pattern", [".", "*", "*.ckpt", "**/*.ckpt", ""])
def test_what_a_folder_or_a_pattern_names_is_a_file(pattern, folder):
    """Names out of a folder are opened there, whatever they are called."""
    names = [name for name in ODD if name.endswith(".ckpt") and name != pattern]
    for name in names:
        (folder / name).write_bytes(checkpoint(VALUES))
    found = find_checkpoints([pattern or str(folder)])

    assert sorted(map(os.path.realpath, found)) == sorted(str(folder / name) for name in names)
    assert [built.error for built in build_indexes(found)] == [""] * len(names)


def test_a_folder_that_is_called_like_a_url_is_a_folder(folder, run):
    """The files of such a folder, of its ranks and of its strategies are opened there."""
    (folder / "memory::runs" / "rank_0").mkdir(parents=True)
    (folder / "memory::runs" / "rank_0" / "memory::net-1_1.ckpt").write_bytes(checkpoint(VALUES))
    with lazyckpt.open_sharded("memory::runs", whole=True) as opened:
        np.testing.assert_equal(opened.load(), VALUES)

    assert run("verify", "memory::runs")[0] == 0


def test_references_lead_to_the_file_that_was_opened(folder):
    """A file that is called like a chain of URLs is referred to by its whole path."""
    (folder / "memory::net.safetensors").write_bytes(file_of(VALUES))
    with lazyckpt.load_checkpoint("memory::net.safetensors", format="safetensors") as opened:
        references = opened.references().to_dict()["refs"]

    assert references["inside/0"][0] == f"file://{os.path.realpath(folder)}/memory::net.safetensors"
