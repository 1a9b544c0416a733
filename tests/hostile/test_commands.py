"""Hostile command lines: huge numbers, invalid patterns, names that are not valid UTF-8."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from checkpoints import LAYERS, checkpoint

import lazyckpt

ROOT = os.path.dirname(os.path.dirname(lazyckpt.__file__))
LATIN = os.fsdecode(b"mod\xe8le.ckpt")  # not valid UTF-8


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, with a checkpoint."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.ckpt").write_bytes(checkpoint(LAYERS))
    return tmp_path


def printed(*arguments):
    """The bytes that a successful command writes to a pipe."""
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
    """A huge size is an error, not infinity and not a failed conversion."""
    code, _, told = run(*command, size)

    assert (code, told.count("\n"), "no file can be this large" in told) == (1, 1, True)


@pytest.mark.parametrize(
    "pattern", ["a{9999999999999999999}", "(" * 2000 + ")" * 2000, "(", "(?L)a", "(?P<é", "(?<=a+)b"]
)
def test_a_pattern_that_cannot_be_used_is_an_error(pattern, run):
    """Every exception of Python's regular expressions becomes an error of the option."""
    code, _, told = run("convert", "net.ckpt", "out.ckpt", "--rename", f"{pattern}=x")

    assert (code, told.startswith("lazyckpt: --rename")) == (1, True)


def test_a_files_name_is_printed_as_the_bytes_that_it_is(folder):
    """A file name that is not valid UTF-8 is printed so that other programs find the file."""
    os.rename("net.ckpt", LATIN)

    assert printed("find", "fc.weight", ".", "--files") == b"./mod\xe8le.ckpt\n"


def test_json_is_text_whatever_a_file_is_called(folder):
    """Bytes that are not valid UTF-8 are escaped in JSON."""
    os.rename("net.ckpt", LATIN)

    (row,) = json.loads(printed("find", "fc.weight", ".", "--json"))
    assert os.fsencode(row["file"]) == b"./mod\xe8le.ckpt"
