"""The examples in docs/remote.md run against a real server."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import fsspec
import pytest

import lazyckpt

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "remote.md").read_text(encoding="utf-8")
LENET = Path(lazyckpt.__file__).parent / "demo_data" / "LeNet5-1_32.ckpt"


def blocks(language):
    """The fenced blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]


@pytest.fixture(autouse=True)
def _lenet(s3, tmp_path, monkeypatch):
    """The object in the text."""
    monkeypatch.chdir(tmp_path)
    fs = fsspec.filesystem("s3")
    fs.put_file(str(LENET), "models/run/LeNet5-1_32.ckpt")
    yield
    fs.rm("models/run", recursive=True)


def test_its_python_runs(monkeypatch):
    """The blocks run one after another, as in one session."""
    monkeypatch.setattr(fsspec.config, "conf", dict(fsspec.config.conf))
    session = {}
    for block in blocks("python"):
        exec(block, session)

    assert session["row"].shape == (10,)


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_run(command, run):
    """Each command succeeds."""
    assert run(*shlex.split(command)[1:])[0] == 0
