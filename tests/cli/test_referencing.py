"""`lazyckpt references`: what it writes, leaves out and refuses."""

from __future__ import annotations

import json
import re

import pytest
from checkpoints import MIXED, array_value, checkpoint, counting, tensor_value
from encryption import encrypted
from followed_references import TENSORS, expected, outcome
from sharded_sets import CASES, problems
from zarr_reading import arrays, chunks

import lazyckpt


@pytest.fixture
def path(tmp_path):
    """A checkpoint with every kind of value."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(checkpoint(MIXED))
    return path


def test_the_command_writes_references(path, run, tmp_path):
    """For all values, or those that match."""
    code, told, complaint = run("references", str(path), "-o", str(tmp_path / "refs.json"))
    found = arrays(json.loads((tmp_path / "refs.json").read_text()))

    assert (code, complaint) == (0, "")
    assert told == f"{tmp_path / 'refs.json'}: 8 of 8 parameters\n"
    with lazyckpt.load_checkpoint(path) as ckpt:
        assert outcome(found) == expected(ckpt)

    code, told, _ = run(
        "references", str(path), "-o", str(tmp_path / "some.json"), "--include", "conv1.*", "--chunk", "300B",
        "--inline", "16B", "--url", "s3://bucket/net.ckpt", "--nested", "--strict",
    )  # fmt: skip
    references = json.loads((tmp_path / "some.json").read_text())

    assert (code, told) == (0, f"{tmp_path / 'some.json'}: 2 of 2 parameters\n")
    found = chunks(references, "conv1/weight")
    assert [(key, url, length) for key, (url, _, length) in found.items()] == [
        (key, "s3://bucket/net.ckpt", 300) for key in ("0.0.0.0", "1.0.0.0")
    ]
    assert chunks(references, "conv1/bias")["0"].startswith("base64:")


def test_the_command_tells_what_is_left_out(run, tmp_path):
    """On stderr; with `--strict` it fails and writes nothing."""
    bad = b"".join(tensor_value(f"bad{number}", [4], "Float32", b"\0" * 5) for number in range(23))
    (tmp_path / "net.ckpt").write_bytes(array_value("w", counting((3,))) + bad)
    arguments = ("references", str(tmp_path / "net.ckpt"), "-o", str(tmp_path / "refs.json"))
    code, told, complaint = run(*arguments)

    assert (code, told) == (0, f"{tmp_path / 'refs.json'}: 1 of 24 parameters\n")
    assert complaint.splitlines()[0].startswith("left out: 'bad0': ")
    assert complaint.splitlines()[20:] == ["left out: 3 more"]

    (tmp_path / "refs.json").unlink()
    code, _, complaint = run(*arguments, "--strict")

    assert code == 1
    assert complaint.startswith("lazyckpt: no reference can be made to 'bad0': ")
    assert not (tmp_path / "refs.json").exists()


def test_the_command_refuses_encrypted_files(run, tmp_path, monkeypatch):
    """And asks for no key, of which it had no use."""
    (tmp_path / "secret.ckpt").write_bytes(encrypted(checkpoint(TENSORS)))
    code, _, complaint = run("references", str(tmp_path / "secret.ckpt"), "-o", str(tmp_path / "refs.json"))

    assert code == 1
    assert "a reference leads to bytes as they stand in it: write a plain copy first" in complaint


def test_the_command_takes_distributed_checkpoints(run, tmp_path):
    """With their strategy."""
    name = next(name for name, (_, case) in CASES.items() if "strategy" in case and not problems(name))
    folder, case = CASES[name]
    code, told, _ = run(
        "references", str(folder / case["dir"]), "-o", str(tmp_path / "refs.json"), "--strategy",
        str(folder / case["strategy"]),
    )  # fmt: skip

    assert code == 0
    assert re.search(r"refs\.json: (\d+) of \1 parameters", told)


def test_a_pattern_that_matches_nothing_is_told(path, run, tmp_path):
    """Nothing is written."""
    code, _, complaint = run("references", str(path), "-o", str(tmp_path / "refs.json"), "--include", "nothing*")

    assert (code, complaint) == (1, "lazyckpt: no parameter matches 'nothing*'\n")
