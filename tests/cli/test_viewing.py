"""`lazyckpt tree`, `stats` and `plot`: their output, options and names."""

from __future__ import annotations

import json

import pytest
from checkpoints import LAYERS, MIXED, array_value, checkpoint, counting, tensor_value
from encryption import KEY, encrypted


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, with a checkpoint of every kind of value, an encrypted one, and a key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "net.ckpt").write_bytes(checkpoint(MIXED))
    (tmp_path / "secret.ckpt").write_bytes(encrypted(checkpoint(LAYERS)))
    (tmp_path / "key").write_bytes(KEY)
    return tmp_path


def test_tree_shows_a_tree(run):
    """`tree` splits names at dots; a prefix and a depth limit the output."""
    code, printed, _ = run("tree", "net.ckpt")
    labels = [line.split()[1] for line in printed.splitlines()[1:] if line[0] in "├└"]

    assert (code, labels) == (0, ["conv1", "fc.weight", "step", "mask", "note", "empty", "table"])
    assert len(run("tree", "net.ckpt", "conv1", "--depth", "1")[1].splitlines()) == 2


def test_tree_as_json_is_complete(run):
    """`tree --json` has the count and bytes of each node."""
    found = json.loads(run("tree", "net.ckpt", "--json")[1])

    assert (found["count"], found["exact"]) == (len(MIXED), True)
    assert sum(child["nbytes"] for child in found["children"]) == found["nbytes"]


def test_tree_shows_refused_parameters(run, folder):
    """`tree` shows parameters that cannot be loaded."""
    (folder / "bad.ckpt").write_bytes(tensor_value("bad", [2], "Float32", b"123") + array_value("ok", counting((2,))))
    code, printed, _ = run("tree", "bad.ckpt")

    assert code == 0
    assert "refused" in printed


def test_stats_measures_names_and_patterns(run):
    """`stats` prints rows in the requested order, or sorted."""
    asked = run("stats", "net.ckpt", "step", "conv1.*")[1].splitlines()[1:]
    by_norm = run("stats", "net.ckpt", "step", "conv1.*", "--sort", "norm")[1].splitlines()[1:]

    assert [line.split()[0] for line in asked] == ["step", "conv1.weight", "conv1.bias"]
    assert [line.split()[0] for line in by_norm] == ["conv1.weight", "step", "conv1.bias"]


def test_stats_as_json_and_as_csv(run, folder):
    """`stats` writes JSON and CSV; for strings, it gives the reason for missing numbers."""
    rows = json.loads(run("stats", "net.ckpt", "--json")[1])
    code, printed, _ = run("stats", "net.ckpt", "--csv", "out.csv")

    assert {row["name"]: row["skipped"] for row in rows}["note"] == "a string"
    assert (code, printed) == (0, "")
    assert (folder / "out.csv").read_text().splitlines()[0].startswith("name,dtype,shape,count,min,max")


def test_stats_prints_csv(run, folder):
    """`--csv -` prints to stdout the text that it would write to a file."""
    run("stats", "net.ckpt", "--csv", "out.csv")

    assert run("stats", "net.ckpt", "--csv", "-")[:2] == (0, (folder / "out.csv").read_text())


def test_stats_tells_what_is_not_there(run):
    """A missing name, column or folder is an error."""
    assert "did you mean 'step'" in run("stats", "net.ckpt", "stepp")[2]
    assert run("stats", "net.ckpt", "--sort", "size")[0] == 2
    assert "cannot be written" in run("stats", "net.ckpt", "--csv", "no/such/folder.csv")[2]


@pytest.mark.parametrize("command", ["tree", "stats"])
def test_looking_at_an_encrypted_file_takes_a_key(command, run):
    """`tree` and `stats` take a key from a file."""
    assert run(command, "secret.ckpt", "--key-file", "key")[0] == 0
    assert run(command, "secret.ckpt")[0] == 1


def test_a_picture_of_values_needs_the_name_of_one(run):
    """`plot hist` needs a name, and other pictures accept none; otherwise the exit code is 2."""
    given = [["hist", "none.ckpt"], ["sizes", "none.ckpt", "w"], ["norms", "none.ckpt", "w"]]

    assert [run("plot", *arguments, "-o", "out.png")[0] for arguments in given] == [2, 2, 2]


def test_a_picture_of_what_is_not_there_is_not_drawn(run, folder):
    """`plot` of an unknown name suggests a similar one, and writes no file."""
    code, _, complaints = run("plot", "hist", "net.ckpt", "stepp", "-o", "out.png")

    assert (code, complaints) == (1, "lazyckpt: there is no parameter 'stepp'; did you mean 'step'?\n")
    assert not (folder / "out.png").exists()
