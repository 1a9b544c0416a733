"""The demo: it looks at a checkpoint that MindSpore wrote, and says what MindSpore's page says."""

from __future__ import annotations

import os
import re
import tempfile

import pytest

from lazyckpt.demo import FILE, run_demo
from lazyckpt.errors import ArgumentValueError, MissingFolder


def said():
    """The lines of the demo."""
    lines = []
    run_demo(lines.append)
    return lines


def test_the_examples_give_what_mindspores_page_shows():
    """The same calls print the same parameters."""
    lines = said()

    assert "Parameter (name=conv2.weight, shape=(16, 6, 5, 5), dtype=Float32, requires_grad=True)" in lines
    assert (
        "{'conv1.weight': Parameter (name=conv1.weight, shape=(6, 1, 5, 5), dtype=Float32, requires_grad=True)}"
        in lines
    )


def test_every_parameter_is_listed():
    """Name, dtype, shape and size of all eight."""
    rows = [line.split() for line in said() if line.startswith("  ")]

    assert [row[0] for row in rows] == [
        *("conv1.weight", "conv2.weight", "fc1.weight", "fc1.bias"),
        *("fc2.weight", "fc2.bias", "fc3.weight", "fc3.bias"),
    ]
    assert {row[1] for row in rows} == {"Float32"}


def test_it_says_how_little_was_read():
    """One row was looked at; the values of the file are larger by far."""
    (line,) = [line for line in said() if line.startswith("Looked at")]

    assert re.match(r"Looked at: 20 bytes of one row\. Not looked at: 2\d\d KiB of values", line)


def test_it_leaves_nothing_behind(tmp_path, monkeypatch):
    """The temporary folder is gone, and the packaged file has no index beside it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    said()

    assert os.listdir(tmp_path) == []


def test_it_leaves_the_checkpoint_where_it_was_asked_to(tmp_path):
    """With its index, and as often as it is asked."""
    for _ in range(2):
        run_demo(lambda line: None, str(tmp_path))

    assert sorted(os.listdir(tmp_path)) == [FILE, f"{FILE}.lmdb"]


def test_it_replaces_nothing(tmp_path):
    """A file of somebody's that has the same name stays; a folder that is not there is told."""
    (tmp_path / FILE).write_bytes(b"mine")

    with pytest.raises(ArgumentValueError, match="another file has the name"):
        run_demo(lambda line: None, str(tmp_path))
    with pytest.raises(MissingFolder, match="create it first"):
        run_demo(lambda line: None, str(tmp_path / "none"))
    assert (tmp_path / FILE).read_bytes() == b"mine"
