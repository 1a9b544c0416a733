"""Finding names in one index and in many checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
from checkpoints import LAYERS, MIXED, array_value, checkpoint
from encryption import KEY, encrypted
from opening import opened_and_traced
from tracing import TracingSource

import lazyckpt
from lazyckpt.errors import ArgumentValueError, MissingName
from lazyckpt.explore.find import entries_like, find, known_names, nothing_found, one_entry
from lazyckpt.sources.encryption.keys import KeyReference


@pytest.fixture
def index():
    """The index of a checkpoint with a name that has wildcard characters, and one that MindSpore changes."""
    values = {**LAYERS, "w[0]": np.ones(1), "w0": np.ones(1), "emb.__param_key__3": np.ones(1)}
    with opened_and_traced(TracingSource(checkpoint(values))) as opened:
        yield opened.index


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ([], [*LAYERS, "w[0]", "w0", "emb.__param_key__3"]),
        ("conv1", ["conv1.weight", "conv1.bias"]),
        ("*.weight", ["conv1.weight", "fc.weight"]),
        (["w0", "conv1.bias"], ["conv1.bias", "w0"]),
        ("w[0]", ["w[0]"]),
        ("*[a-z0-9]*", [*LAYERS, "w[0]", "w0", "emb.__param_key__3"]),
    ],
)
def test_entries_by_patterns(index, patterns, names):
    """Entries come in file order, also if most of them match."""
    assert [entry.name for entry in entries_like(index, patterns)] == names


def test_entries_need_a_match(index):
    """A pattern that matches nothing is an error before the first entry."""
    with pytest.raises(MissingName, match=r"'\*.wieght'; did you mean '\*.weight'"):
        entries_like(index, ["*.wieght"])


def test_an_entry_is_found_under_the_name_that_mindspore_gives_it(index):
    """An entry is found under MindSpore's name and under its own, and under a pattern that only it matches."""
    names = ("emb", "emb.__param_key__3", "fc.weight", "fc")
    found = [one_entry(index, name).name for name in names]

    assert found == ["emb.__param_key__3", "emb.__param_key__3", "fc.weight", "fc.weight"]
    with pytest.raises(MissingName):
        one_entry(index, "em.")
    with pytest.raises(ArgumentValueError, match="matches 2 parameters"):
        one_entry(index, "conv1.")


@pytest.fixture
def files(tmp_path):
    """A plain checkpoint, an encrypted one, a set of files, a file of another kind, and the key's location."""
    (tmp_path / "a.ckpt").write_bytes(checkpoint(MIXED))
    (tmp_path / "secret.ckpt").write_bytes(encrypted(checkpoint({"only.bias": np.ones(1)})))
    (tmp_path / "bad.ckpt").write_bytes(b"\xff" * 50)
    (tmp_path / "key").write_bytes(KEY)
    with lazyckpt.load_checkpoint(tmp_path / "a.ckpt") as opened:
        opened.save(tmp_path / "set.safetensors", list(LAYERS), max_shard_size=700)
    return tmp_path


def found_in(files, pattern, *names):
    """The (file, name) of each result, or (file, None)."""
    key = KeyReference(file=str(files / "key"))
    found = find(pattern, [files / name for name in names], key)
    return [(path.rpartition("/")[2], entry and entry.name) for path, entry, _ in found]


def test_names_are_found_in_many_files(files):
    """Names are found in plain files, encrypted ones and sets."""
    names = ("a.ckpt", "secret.ckpt", "set.safetensors.index.json")

    assert found_in(files, "*.bias", *names) == [
        ("a.ckpt", "conv1.bias"),
        ("secret.ckpt", "only.bias"),
        ("set.safetensors.index.json", "conv1.bias"),
    ]
    assert found_in(files, "conv1.bias", "a.ckpt") == [("a.ckpt", "conv1.bias")]
    assert found_in(files, "conv1", "a.ckpt") == [("a.ckpt", "conv1.weight"), ("a.ckpt", "conv1.bias")]
    assert found_in(files, "conv2", "a.ckpt") == []


def test_a_fault_of_one_file_does_not_stop_the_others(files):
    """A fault is reported in its file's position."""
    assert found_in(files, "step", "bad.ckpt", "none.ckpt", "a.ckpt") == [
        ("bad.ckpt", None),
        ("none.ckpt", None),
        ("a.ckpt", "step"),
    ]
    (fault,) = find("step", [files / "secret.ckpt"])
    assert fault.error.startswith("the file is encrypted")


def test_names_for_a_shell_come_from_a_fresh_index_only(files):
    """Shell completion builds no index and raises no error."""
    path = files / "b.ckpt"
    path.write_bytes(checkpoint(LAYERS))
    before = known_names(str(path), "conv")
    built = (files / "b.ckpt.lmdb").exists()
    lazyckpt.build_index(path).close()
    after = known_names(str(path), "conv")
    path.write_bytes(checkpoint(LAYERS) + array_value("x", np.ones(1)))

    assert (before, built, after) == ([], False, ["conv1.weight", "conv1.bias"])
    assert known_names(str(path), "conv") == []
    assert known_names(str(files / "a.ckpt"), "", most=3) == list(LAYERS)[:3]
    assert [known_names(str(files / name), "") for name in ("none.ckpt", "secret.ckpt", "bad.ckpt", "")] == [[]] * 4
    assert known_names("a\0b", "") == []


def test_nothing_found_names_what_is_similar(files):
    """Similar names come from all files that can be opened."""
    paths = [str(files / name) for name in ("a.ckpt", "set.safetensors.index.json")]

    assert nothing_found("conv1.bais", paths).similar[0] == "conv1.bias"
    assert nothing_found("conv1.bais", [str(files / "bad.ckpt")]).similar == ()
