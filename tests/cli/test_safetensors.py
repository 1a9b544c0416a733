"""The command line detects safetensors files and listings by itself."""

from __future__ import annotations

import json
import os

import pytest
from checkpoints import LAYERS, checkpoint, counting
from safetensors_files import file_of

TENSORS = {"b.weight": counting((2, 3)), "a.bias": counting((4,), "float16")}
ANY = ["model.safetensors", "model.bin", "misnamed.ckpt", "model.safetensors.index.json"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder: the same tensors in a file under three names, and in a set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ANY[:3]:
        (tmp_path / name).write_bytes(file_of(TENSORS))
    (tmp_path / "parts").mkdir()
    for number, (name, array) in enumerate(TENSORS.items()):
        (tmp_path / f"part-{number}.safetensors").write_bytes(file_of({name: array}))
    homes = {name: f"part-{number}.safetensors" for number, name in enumerate(TENSORS)}
    (tmp_path / ANY[3]).write_text(json.dumps({"weight_map": homes}))
    return tmp_path


@pytest.mark.parametrize("name", ANY)
def test_ls_lists_it(name, run):
    """`ls` prints names, dtypes and shapes for any file name."""
    code, printed, _ = run("ls", name, "--json", "--sort", "name")

    assert code == 0
    assert [(one["name"], one["dtype"], one["shape"]) for one in json.loads(printed)] == [
        ("a.bias", "Float16", [4]), ("b.weight", "Float32", [2, 3]),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ANY)
def test_show_shows_values(name, run):
    """`show` prints the first values as they were saved."""
    code, printed, _ = run("show", name, "b.weight", "--json")

    assert (code, json.loads(printed)["first"]) == (0, TENSORS["b.weight"].reshape(-1).tolist())


@pytest.mark.parametrize("name", ANY)
def test_match_matches_it(name, run, folder):
    """`match` compares the file with a net described in JSON."""
    (folder / "net.json").write_text(json.dumps({"a.bias": [[4], "Float16"], "b.weight": [[2, 3], "Float32"]}))
    code, _, _ = run("match", name, "--names", "net.json")

    assert code == 0


@pytest.mark.parametrize("name", ANY[:3])
def test_index_builds_its_index(name, run):
    """`index` writes the index next to the file, and prints the number of parameters."""
    code, printed, _ = run("index", name)

    assert (code, f"{name}: 2 parameters" in printed, os.path.exists(f"{name}.lmdb")) == (0, True, True)


def test_index_of_a_listing_is_that_of_its_files(run):
    """`index` on a listing builds an index for each of its files."""
    code, printed, _ = run("index", ANY[3])

    assert (code, printed.count("1 parameters")) == (0, 2)
    assert sorted(name for name in os.listdir() if name.endswith(".lmdb")) == [
        "part-0.safetensors.lmdb", "part-1.safetensors.lmdb",
    ]  # fmt: skip


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_folder_is_searched_for_both_formats(jobs, run, folder):
    """A folder is searched for both extensions, and the format is detected from the content."""
    (folder / "parts" / "net.ckpt").write_bytes(checkpoint(LAYERS))
    (folder / "parts" / "net.safetensors").write_bytes(file_of(TENSORS))
    code, printed, _ = run("index", "parts", "--jobs", jobs)

    assert code == 0
    assert [line.split(": ")[0] for line in printed.splitlines()] == ["parts/net.ckpt", "parts/net.safetensors"]


def test_a_file_that_is_neither_is_told(run, folder):
    """Every command reports a file in an unknown format."""
    (folder / "noise.bin").write_bytes(b"\xff" * 100)
    codes = [run(*command)[0] for command in (["ls", "noise.bin"], ["show", "noise.bin", "w"], ["index", "noise.bin"])]

    assert codes == [1, 1, 1]
