"""The README is true: its Python runs, and so do its commands."""

from __future__ import annotations

import doctest
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mindspore_results import FILES

import lazyckpt
from lazyckpt import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LENET = Path(lazyckpt.__file__).parent / "demo_data" / "LeNet5-1_32.ckpt"
ENCRYPTED = FILES / "enc_aesgcm_16.ckpt"  # stands for files whose names say that they are secret
KEY = bytes(range(1, 17))


def blocks(*languages):
    """The fenced blocks of the README in these languages, in order."""
    return [
        text
        for language, text in re.findall(r"^```(\w+)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
        if language in languages
    ]


PYTHON = blocks("python", "pycon")
COMMANDS = [
    line.removeprefix("$ ")
    for block in blocks("sh", "bash", "console")
    for line in block.replace("\\\n", " ").splitlines()
    if line.removeprefix("$ ").startswith(("lazyckpt ", "python tools/build_index.py "))
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder in which every checkpoint that the README names exists, and the key of those that are secret."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    named = [
        text for text in [*PYTHON, *COMMANDS] for text in re.findall(r"""[\w./*-]+\.ckpt\b|[\w.-]+/(?=[\s'"])""", text)
    ]
    for name in named:
        path = tmp_path / (f"{name}net.ckpt" if name.endswith("/") else name.replace("**", "a").replace("*", "b"))
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ENCRYPTED if "secret" in name else LENET, path)
    for text in [*PYTHON, *COMMANDS]:
        for variable in re.findall(r"""environ\[['"](\w+)|--key-env[ =](\w+)""", text):
            monkeypatch.setenv("".join(variable), KEY.hex() if variable[0] else f"hex:{KEY.hex()}")
        for file in re.findall(r"--key-file[ =](\S+)", text):
            (tmp_path / file).write_bytes(KEY)


def test_the_readme_has_examples():
    """There is something to run below."""
    assert PYTHON
    assert COMMANDS


def test_its_python_runs(capsys):
    """The blocks follow each other as in one session; those with prompts also print what they say.

    What imports a framework that is not installed is compiled only.
    """
    session = {}
    for number, block in enumerate(PYTHON):
        if not all(map(importlib.util.find_spec, re.findall(r"import (mindspore|torch|xarray|zarr)", block))):
            compile(block, f"README.md, block {number}", "exec")
        elif ">>> " in block:
            example = doctest.DocTestParser().get_doctest(block, session, f"block {number}", "README.md", 0)
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
            assert runner.run(example, clear_globs=False).failed == 0, capsys.readouterr().out
        else:
            exec(compile(block, f"README.md, block {number}", "exec"), session)  # its own text


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_run(command, capsys):
    """Each ends with exit code 0."""
    name, *arguments = shlex.split(command.partition("|")[0], comments=True)
    if name == "lazyckpt":
        with pytest.raises(SystemExit) as ended:
            cli.app(arguments)
        code = ended.value.code or 0
    else:
        code = subprocess.run(
            [sys.executable, ROOT / arguments[0], *arguments[1:]], check=False, env=os.environ
        ).returncode

    assert code == 0, capsys.readouterr().err


@pytest.mark.parametrize("link", sorted(set(re.findall(r"""(?:\]\(|src=\"|srcset=\")(?!https?:)([^)"#]+)""", README))))
def test_what_it_shows_and_links_to_is_there(link):
    """Pictures and files of this repository."""
    assert (ROOT / link).is_file()
