"""`lazyckpt diff`, and the digests that make it faster (`lazyckpt index --digest`)."""

from __future__ import annotations

import json

import numpy as np
import pytest
from checkpoints import LAYERS, MIXED, checkpoint
from encryption import KEY, encrypted, key_of

import lazyckpt


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, with two plain checkpoints and two encrypted ones, and their keys."""
    monkeypatch.chdir(tmp_path)
    changed = {**MIXED, "step": np.array(18)}
    (tmp_path / "a.ckpt").write_bytes(checkpoint(MIXED))
    (tmp_path / "copy.ckpt").write_bytes(checkpoint(MIXED))
    (tmp_path / "b.ckpt").write_bytes(checkpoint(changed))
    (tmp_path / "secret.ckpt").write_bytes(encrypted(checkpoint(MIXED), "AES-GCM"))
    (tmp_path / "other.ckpt").write_bytes(encrypted(checkpoint(changed), "AES-CBC", key_of(32)))
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "other.key").write_bytes(key_of(32))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["a.ckpt", "copy.ckpt"], 0),
        (["a.ckpt", "a.ckpt"], 0),
        (["a.ckpt", "b.ckpt"], 1),
        (["a.ckpt", "b.ckpt", "--names-only"], 0),
        (["a.ckpt", "b.ckpt", "conv*", "fc.weight"], 0),
        (["a.ckpt", "b.ckpt", "s*", "--jobs", "2"], 1),
        (["a.ckpt", "secret.ckpt", "--key-file", "key"], 0),
        (["secret.ckpt", "b.ckpt", "--key-file", "key"], 1),
        (["a.ckpt", "secret.ckpt", "--key-file-b", "key"], 0),
        (["secret.ckpt", "other.ckpt", "--key-file", "key", "--key-file-b", "other.key"], 1),
        (["a.ckpt", "none.ckpt"], 2),
        (["a.ckpt", "key"], 2),
        (["a.ckpt", "secret.ckpt"], 2),
        (["a.ckpt", "other.ckpt", "--key-file-b", "key"], 2),
        (["a.ckpt", "b.ckpt", "--key-file-b", "key"], 2),
        (["a.ckpt"], 2),
    ],
)
def test_the_exit_code_is_that_of_diff(arguments, code, run):
    """0 for equal, 1 for different, 2 for an error, which is printed."""
    got, printed, complaints = run("diff", *arguments)

    assert got == code
    assert (bool(printed), bool(complaints)) == (code != 2, code == 2)


def test_what_differs_is_printed(run):
    """`diff` prints one line for each difference, and a summary."""
    printed = run("diff", "a.ckpt", "b.ckpt")[1]

    assert "\n~ step  Int64 ()  max |Δ| 1, relative L2 5.88e-02, cosine 1.000000, 1 of 1 differ\n" in printed
    assert printed.endswith("\n1 with other values, 7 equal\n")


def test_the_report_as_json(run):
    """`diff --json` prints the report of the API."""
    told = json.loads(run("diff", "a.ckpt", "b.ckpt", "--json")[1])

    assert (told["same"], told["counts"]) == (False, {"value": 1, "equal": 7})
    assert told == json.loads(json.dumps(lazyckpt.diff("a.ckpt", "b.ckpt").to_dict()))


@pytest.mark.parametrize("files", [["a.ckpt"], ["a.ckpt", "b.ckpt"], ["a.ckpt", "b.ckpt", "--jobs", "2"]])
def test_digests_are_stored_on_request(files, run):
    """`--digest` works for one file or several, and rebuilds an index without digests."""
    run("index", *files)
    assert run("index", *files, "--digest")[0] == 0
    index = lazyckpt.build_index("a.ckpt")

    assert index.has_digests
    assert len(index["fc.weight"].digest) == 32
    assert set(index) == {*LAYERS, *MIXED}
    index.close()
