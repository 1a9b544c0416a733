"""The command line: its output and exit codes, and errors without a traceback."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import MIXED, array_value, checkpoint, counting, string_value
from mindspore_results import FILES

import lazyckpt
from lazyckpt import cli

KEY = bytes(range(1, 17))
PLACES_OF_KEYS = {
    *("--key-file", "--key-env", "--key-file-b", "--key-env-b"),
    *("--new-key-file", "--new-key-env"),
}
COMMANDS = sorted(command.name or command.callback.__name__ for command in cli.app.registered_commands)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, with a checkpoint of every kind of value, an encrypted one, and a key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "net.ckpt").write_bytes(checkpoint(MIXED))
    shutil.copy(FILES / "enc_aescbc_16.ckpt", tmp_path / "secret.ckpt")
    (tmp_path / "key").write_bytes(KEY)
    return tmp_path


def test_the_version_is_the_packages(run):
    """`lazyckpt --version` prints the version of the package."""
    assert run("--version") == (0, f"lazyckpt {lazyckpt.__version__}\n", "")


def test_the_module_can_be_run():
    """`python -m lazyckpt` is the same command."""
    printed = subprocess.check_output([sys.executable, "-m", "lazyckpt", "--version"], encoding="utf-8")

    assert printed == f"lazyckpt {lazyckpt.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does(command, run):
    """The help of every command has a sentence, and so has its row in the list of commands."""
    code, printed, _ = run(command, "--help")

    assert code == 0
    assert re.search(r"\n +[A-Z][^\n]*[a-z]", printed)
    assert re.search(rf"\n +{command} +[A-Z]", run("--help")[1])


def test_without_a_command_there_is_help(run):
    """`lazyckpt` without arguments prints its usage."""
    assert "Usage" in "".join(run()[1:])


def test_a_key_is_never_an_argument(run):
    """No command takes a key itself. It would end up in the shell history and the process list."""
    for command in COMMANDS:
        options = set(re.findall(r"--[a-z-]+", run(command, "--help")[1]))

        assert {option for option in options if "key" in option} <= PLACES_OF_KEYS


def test_names_cannot_disturb_a_terminal(run, folder):
    """Control characters in names and strings are escaped."""
    (folder / "odd.ckpt").write_bytes(
        array_value("w\x1b[2J\n", counting((2,))) + string_value("s", "a\x1b]0;title\x07\n")
    )
    printed = run("ls", "odd.ckpt")[1] + run("show", "odd.ckpt", "s")[1]

    assert "w\\x1b[2J\\n" in printed
    assert "a\\x1b]0;title\\x07\\n" in printed
    assert {character for character in printed if not character.isprintable()} == {"\n"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["ls", "none.ckpt"], r"none\.ckpt does not exist"),
        (["index", "none.ckpt"], r"no checkpoint at none\.ckpt"),
        (["ls", "key"], "key: "),
        (["show", "text.ckpt", "w"], r"text\.ckpt: this is a text file"),
        (["ls", "secret.ckpt"], r"secret\.ckpt: the file is encrypted \(AES-CBC\): give --key-file or --key-env"),
        (["ls", "secret.ckpt", "--key-file", "none"], "the key file none cannot be read"),
        (["ls", "secret.ckpt", "--key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY, which should hold a key, is not set"),
        (["ls", "net.ckpt", "--key-file", "key"], "the file is not encrypted"),
        (["ls", "secret.ckpt", "--key-file", "text.ckpt"], "the one given has 90"),
    ],
)  # fmt: skip
def test_a_fault_is_one_line_and_exit_code_1(arguments, complaint, run, folder):
    """Errors are one line on stderr, without a traceback and without output on stdout."""
    (folder / "text.ckpt").write_bytes(b"this is no checkpoint at all\n\n" * 3)
    code, printed, complaints = run(*arguments)

    assert (code, printed, complaints.count("\n")) == (1, "", 1)
    assert re.search(f"^lazyckpt: .*{complaint}", complaints)


@pytest.mark.parametrize("how", ["--key-file", "--key-env", "prompt"])
def test_encrypted_checkpoints_are_read_with_a_key_from_elsewhere(how, run, monkeypatch):
    """The key comes from a file, a variable or a hidden prompt; the mode is detected."""
    monkeypatch.setenv("SECRET_KEY", f"hex:{KEY.hex()}")
    options = {"--key-file": ["--key-file", "key"], "--key-env": ["--key-env", "SECRET_KEY"], "prompt": []}[how]
    asked = []
    if how == "prompt":
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(
            cli.typer, "prompt", lambda text, hide_input: asked.append((text, hide_input)) or f"hex:{KEY.hex()}"
        )
    listed, shown = run("ls", "secret.ckpt", *options), run("show", "secret.ckpt", "fc.bias", *options)

    assert (listed[0], shown[0]) == (0, 0)
    assert "conv.weight" in listed[1]
    assert "[10]" in shown[1]
    assert asked == ([("Key of secret.ckpt (AES-CBC)", True)] * 2 if how == "prompt" else [])


def test_the_demo_runs(run):
    """`demo` prints the examples that it runs."""
    code, printed, complaints = run("demo")

    assert (code, complaints) == (0, "")
    assert "load_checkpoint" in printed


def test_a_reader_that_goes_away_is_no_error(folder):
    """`lazyckpt ls … | head -1` ends without an error message."""
    Path("many.ckpt").write_bytes(b"".join(array_value(f"layer{n}.weight", counting((1,))) for n in range(6000)))
    with subprocess.Popen(
        [sys.executable, "-m", "lazyckpt", "ls", "many.ckpt"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as listing:
        first = listing.stdout.readline()
        listing.stdout.close()
        complaints = listing.stderr.read()

    assert first.startswith(b"layer0.weight")
    assert complaints == b""
