"""Hostile command lines: numbers without measure, patterns without sense, names that are no text."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from checkpoints import LAYERS, checkpoint

import lazyckpt

ROOT = os.path.dirname(os.path.dirname(lazyckpt.__file__))
LATIN = os.fsdecode(b"mod\xe8le.ckpt")  # a name of bytes that are no UTF-8


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, with a checkpoint."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.ckpt").write_bytes(checkpoint(LAYERS))
    return tmp_path


def printed(*arguments):
    """What a command prints to a pipe, as bytes; it succeeds."""
    command = [sys.executable, "-m", "lazyckpt", *arguments]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": ROOT}, stdout=subprocess.PIPE, check=True).stdout


@pytest.mark.parametrize("size", ["9" * 400, "9" * 5000, "9" * 400 + "GB", "9999999999999999999"])
@pytest.mark.parametrize(
    "command",
    [
        ["references", "net.ckpt", "-o", "refs.json", "--chunk"],
        ["references", "net.ckpt", "-o", "refs.json", "--inline"],
        ["convert", "net.ckpt", "out.ckpt", "--max-shard-size"],
    ],
)
def test_a_size_beyond_all_files_is_an_error(command, size, run):
    """It becomes no infinity, and no number that Python refuses to read."""
    code, _, told = run(*command, size)

    assert (code, told.count("\n"), "no file can be this large" in told) == (1, 1, True)


@pytest.mark.parametrize(
    "pattern", ["a{9999999999999999999}", "(" * 2000 + ")" * 2000, "(", "(?L)a", "(?P<é", "(?<=a+)b"]
)
def test_a_pattern_that_cannot_be_used_is_an_error(pattern, run):
    """Whatever Python's regular expressions raise, of too large a number and of too deep a nest, too."""
    code, _, told = run("convert", "net.ckpt", "out.ckpt", "--rename", f"{pattern}=x")

    assert (code, told.startswith("lazyckpt: --rename")) == (1, True)


def test_a_files_name_is_printed_as_the_bytes_that_it_is(folder):
    """Also one that is no UTF-8, so that other programs find the file by it."""
    os.rename("net.ckpt", LATIN)

    assert printed("find", "fc.weight", ".", "--files") == b"./mod\xe8le.ckpt\n"


def test_json_is_text_whatever_a_file_is_called(folder):
    """Bytes that are no UTF-8 are escaped."""
    os.rename("net.ckpt", LATIN)

    (row,) = json.loads(printed("find", "fc.weight", ".", "--json"))
    assert os.fsencode(row["file"]) == b"./mod\xe8le.ckpt"
