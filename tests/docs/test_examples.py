"""The examples that need only lazyckpt, and the list of all examples."""

from __future__ import annotations

import re
import sys

from example_runs import EXAMPLES, run

import lazyckpt

LISTED = (EXAMPLES / "README.md").read_text(encoding="utf-8")


def test_every_example_is_listed_with_a_command_that_runs_it():
    """The list has a line for each file, with a command that names the file."""
    files = {path.name for path in EXAMPLES.iterdir() if path.is_file()} - {"README.md"}
    lines = re.findall(r"^\| \[([\w.]+)\]\(\1\) \|.*\| `[^`]*examples/\1[^`]*` \|$", LISTED, re.MULTILINE)

    assert sorted(lines) == sorted(files)


def test_the_checkpoint_of_the_tour_is_written_to_where_one_says(tmp_path):
    """The example writes a checkpoint of twelve layers to the given path."""
    ended = run([sys.executable, "transformer.py"], "model.ckpt", folder=tmp_path)

    assert ended == (0, "", "")
    with lazyckpt.load_checkpoint(tmp_path / "model.ckpt") as ckpt:
        assert len([name for name in ckpt if name.endswith("mlp.up.weight")]) == 12
