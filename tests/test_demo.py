"""The demo inspects a checkpoint from MindSpore, and prints the output that MindSpore documents."""

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
    """The list has the name, dtype, shape and size of all eight parameters."""
    rows = [line.split() for line in said() if line.startswith("  ")]

    assert [row[0] for row in rows] == [
        *("conv1.weight", "conv2.weight", "fc1.weight", "fc1.bias"),
        *("fc2.weight", "fc2.bias", "fc3.weight", "fc3.bias"),
    ]
    assert {row[1] for row in rows} == {"Float32"}


def test_it_says_how_little_was_read():
    """One row's bytes are reported as read, and the other values' as not read."""
    (line,) = [line for line in said() if line.startswith("Read: ")]

    assert re.match(r"Read: 20 bytes of one row\. Not read: 2\d\d KiB of values", line)


def test_it_leaves_nothing_behind(tmp_path, monkeypatch):
    """The temporary folder is removed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    said()

    assert os.listdir(tmp_path) == []


def test_it_leaves_the_checkpoint_where_it_was_asked_to(tmp_path):
    """With a folder, the checkpoint and its index stay there, and the demo can be repeated."""
    for _ in range(2):
        run_demo(lambda line: None, str(tmp_path))

    assert sorted(os.listdir(tmp_path)) == [FILE, f"{FILE}.lmdb"]


def test_it_replaces_nothing(tmp_path):
    """A different file with the same name is kept, and a missing folder is an error."""
    (tmp_path / FILE).write_bytes(b"mine")

    with pytest.raises(ArgumentValueError, match="a different file exists at"):
        run_demo(lambda line: None, str(tmp_path))
    with pytest.raises(MissingFolder, match="create it first"):
        run_demo(lambda line: None, str(tmp_path / "none"))
    assert (tmp_path / FILE).read_bytes() == b"mine"
