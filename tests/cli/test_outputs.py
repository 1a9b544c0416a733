"""Existing files: commands replace them only on request, and never an input by accident."""

from __future__ import annotations

import os

import pytest
from checkpoints import counting

import lazyckpt

VALUES = {"a.w": counting((50, 4)), "a.b": counting((7,)), "b.w": counting((30,))}
# Commands by name, as functions of the file to write. Commands that need extra packages have other tests.
COMMANDS = {
    "convert": lambda out: ["convert", "net.ckpt", out],
    "extract": lambda out: ["extract", "net.ckpt", "a.*", "--out", out],
    "references": lambda out: ["references", "net.ckpt", "--output", out],
    "stats": lambda out: ["stats", "net.ckpt", "--csv", out],
}
ENDINGS = {"convert": "ckpt", "extract": "safetensors", "references": "json", "stats": "csv"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, with `net.ckpt`."""
    monkeypatch.chdir(tmp_path)
    lazyckpt.save_checkpoint(VALUES, "net.ckpt", mode=0o644)
    return tmp_path


def content(path="net.ckpt"):
    """The bytes of a file."""
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_is_there_is_replaced_only_with_force(run, command):
    """Without `--force`, an existing file is kept, and the error suggests the option."""
    out = f"out.{ENDINGS[command]}"
    arguments = COMMANDS[command](out)
    with open(out, "w") as file:
        file.write("something")
    refused, _, complaint = run(*arguments)
    kept = content(out)
    forced, _, _ = run(*arguments, "--force")
    replaced = content(out)
    os.unlink(out)
    fresh, _, _ = run(*arguments)

    assert (refused, kept) == (1, b"something")
    assert f"{out} exists already: give another name, or --force" in complaint
    assert (forced, fresh, content(out)) == (0, 0, replaced)
    assert replaced != b"something"


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize(
    "arguments",
    [
        ["extract", "net.ckpt", "a.*", "-o", "net.ckpt"],
        ["extract", "net.ckpt", "a.*", "-o", "link.ckpt"],
        ["extract", "net.ckpt", "a.*", "-o", "hard.ckpt"],
        ["convert", "net.ckpt", "./net.ckpt", "--include", "a.*"],
        ["convert", "net.ckpt", "net.ckpt", "--dtype", "Float16"],
        ["convert", ".", "net.ckpt", "--exclude", "a.*"],
        ["stats", "net.ckpt", "--csv", "net.ckpt"],
        ["plot", "sizes", "net.ckpt", "-o", "link.png"],
    ],
    ids=" ".join,
)
def test_no_command_destroys_what_it_reads(run, arguments, force):
    """`--force` does not allow losing values of the input."""
    os.link("net.ckpt", "hard.ckpt")
    os.symlink("net.ckpt", "link.ckpt")
    os.symlink("net.ckpt", "link.png")
    before = content()
    if arguments[1] == ".":
        os.unlink("hard.ckpt")
        os.unlink("link.ckpt")
    code, _, complaint = run(*arguments, *force)

    assert (code, content()) == (1, before)
    assert "is the input" in complaint


def test_a_part_replaces_the_whole_in_place(run):
    """`--in-place` works without `--force`."""
    code, told, _ = run("extract", "net.ckpt", "a.*", "-o", "net.ckpt", "--in-place")

    with lazyckpt.load_checkpoint("net.ckpt") as ckpt:
        assert (code, list(ckpt)) == (0, ["a.w", "a.b"]), told


def test_in_place_is_no_leave_to_replace_other_files(run):
    """`--in-place` applies only to the input."""
    with open("other.ckpt", "w") as file:
        file.write("something")
    code, _, complaint = run("convert", "net.ckpt", "other.ckpt", "--in-place")

    assert (code, content("other.ckpt")) == (1, b"something")
    assert "--force" in complaint


def test_all_of_a_checkpoint_is_written_over_it(run):
    """`convert A A` needs only `--force` if every value is kept."""
    refused, _, complaint = run("convert", "net.ckpt", "net.ckpt", "--rename", "^a=c")
    forced, _, _ = run("convert", "net.ckpt", "net.ckpt", "--rename", "^a=c", "--force")

    assert (refused, forced) == (1, 0)
    assert "--force" in complaint
    assert list(lazyckpt.load_checkpoint("net.ckpt")) == ["c.w", "c.b", "b.w"]


def test_parts_that_are_there_are_replaced_only_with_force(run):
    """`--force` is needed if any of several output files exists."""
    with open("out-00002-of-00002.ckpt", "w") as file:
        file.write("something")
    arguments = ["convert", "net.ckpt", "out.ckpt", "--max-shard-size", "800"]
    refused, _, complaint = run(*arguments)
    kept = content("out-00002-of-00002.ckpt")
    forced, _, _ = run(*arguments, "--force")

    assert (refused, kept, forced) == (1, b"something", 0)
    assert "out-00002-of-00002.ckpt exists already" in complaint


def test_a_picture_that_is_there_is_kept(run):
    """`plot` checks for an existing file before drawing."""
    with open("out.png", "w") as file:
        file.write("something")
    code, _, complaint = run("plot", "sizes", "net.ckpt", "-o", "out.png")

    assert (code, content("out.png")) == (1, b"something")
    assert "out.png exists already: give another name, or --force" in complaint
