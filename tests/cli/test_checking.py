"""`lazyckpt doctor` and `lazyckpt verify`: their output and exit codes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from checkpoints import LAYERS, array_value, checkpoint, tensor_value, with_crc
from encryption import KEY, encrypted
from other_files import LFS

import lazyckpt
from lazyckpt.explore.doctor import diagnose
from lazyckpt.explore.verify import verify


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, with intact and damaged checkpoints, and other files."""
    monkeypatch.chdir(tmp_path)
    body = checkpoint(LAYERS)
    files = {
        "good.ckpt": with_crc(body),
        "plain.ckpt": body,
        "cut.ckpt": body[:-10],
        "wrong.ckpt": with_crc(body, 7),
        "odd.ckpt": body + tensor_value("q", [2], "Float8E4M3FN", b"ab"),
        "nan.ckpt": array_value("w", np.array([np.nan])),
        "pointer.ckpt": LFS,
        "secret.ckpt": encrypted(body),
        "key": KEY,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["good.ckpt"], 0),
        (["plain.ckpt"], 0),
        (["nan.ckpt"], 0),
        (["secret.ckpt"], 0),
        (["secret.ckpt", "--key-file", "key"], 0),
        (["nan.ckpt", "--values"], 1),
        (["cut.ckpt"], 1),
        (["odd.ckpt"], 1),
        (["pointer.ckpt"], 1),
        (["key"], 1),
        (["."], 1),
        (["none.ckpt"], 1),
        (["secret.ckpt", "--key-file", "good.ckpt"], 1),
        (["secret.ckpt", "--key-file", "none"], 2),
        ([], 2),
    ],
)
def test_the_doctors_exit_code(arguments, code, run):
    """0 for a healthy file, 1 for a problem, 2 for wrong usage."""
    got, printed, complaints = run("doctor", *arguments)

    assert got == code
    assert (bool(printed), bool(complaints)) == (code != 2, code == 2)


def test_the_doctor_says_what_to_do(run):
    """`doctor` prints a recommendation for a finding."""
    printed = run("doctor", "pointer.ckpt")[1]

    assert printed.startswith("pointer.ckpt: a Git LFS pointer, not the file it stands for; fatal")
    assert "-> run 'git lfs pull'" in printed


def test_the_diagnosis_as_json(run):
    """`doctor --json` prints the diagnosis of the API."""
    told = json.loads(run("doctor", "odd.ckpt", "--json")[1])

    assert told == json.loads(json.dumps(diagnose("odd.ckpt").to_dict()))
    assert (told["healthy"], told["findings"][0]["level"]) == (False, "error")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["good.ckpt"], 0),
        (["plain.ckpt"], 0),
        (["good.ckpt", "plain.ckpt", "--jobs", "2"], 0),
        (["secret.ckpt", "good.ckpt", "--key-file", "key"], 0),
        (["wrong.ckpt"], 1),
        (["good.ckpt", "cut.ckpt"], 1),
        (["."], 1),
        (["secret.ckpt"], 1),
        (["pointer.ckpt"], 1),
        (["none.ckpt"], 2),
        (["good.ckpt", "--key-env", "NO_SUCH_KEY"], 2),
        (["good.ckpt", "--jobs", "0"], 2),
        ([], 2),
    ],
)
def test_the_exit_code_of_verify(arguments, code, run):
    """0 for intact files, 1 for damaged or unreadable ones, 2 for wrong usage."""
    got, printed, complaints = run("verify", *arguments)

    assert got == code
    assert (bool(printed), bool(complaints)) == (code != 2, code == 2)


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_many_files_are_verified_in_order(jobs, run):
    """`verify` accepts patterns, and prints one verdict for each file, in order."""
    printed = run("verify", "w*.ckpt", "good.ckpt", "plain.ckpt", "--jobs", jobs)[1]
    verdicts = [line for line in printed.splitlines() if not line.startswith(" ")]

    assert [line.partition(";")[0] for line in verdicts] == [
        "wrong.ckpt: DAMAGED (crc)",
        "good.ckpt: intact",
        "plain.ckpt: intact, as far as it can be checked",
    ]


def test_the_parts_of_a_set_are_verified(run):
    """`verify` on a listing checks each of its files."""
    with lazyckpt.load_checkpoint("good.ckpt") as opened:
        opened.save("set.safetensors", max_shard_size=1000)
    code, printed, _ = run("verify", "set.safetensors.index.json")

    assert code == 0
    assert printed.count("intact") > 1


def test_verifications_as_json(run):
    """`verify --json` prints a list of the reports of the API."""
    told = json.loads(run("verify", "good.ckpt", "wrong.ckpt", "--json")[1])
    expected = [verify(name).to_dict() for name in ("good.ckpt", "wrong.ckpt")]
    for report in (*told, *expected):
        del report["seconds"]

    assert told == json.loads(json.dumps(expected))
    assert [report["intact"] for report in told] == [True, False]
