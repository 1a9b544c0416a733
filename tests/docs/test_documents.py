"""README and handbook are correct: their Python and commands run, and their links work."""

from __future__ import annotations

import builtins
import doctest
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from documents import ENGLISH, PAGES, ROOT, blocks, commands, furnish

import lazyckpt
from lazyckpt import cli

# Pages that need an object store or a cluster, and the suites that run their blocks.
ELSEWHERE = {"docs/remote.md": "interop/remote/test_docs.py", "docs/scale.md": "interop/dask/test_cluster.py"}
# Commands that .ci/run covers: those of the README, the developer setup, the wheel, the handbook.
BY_THE_GATE = {
    "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/lazyckpt demo",
    "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/python -m pytest -q -n auto",
    "python3 -m venv .venv",
    ". .venv/bin/activate",
    ".venv/bin/pip install -e '.[dev]'",
    "pip install .",
    "pip install -e '.[docs]'",
    "mkdocs build --strict",
}
BY_HAND = {  # takes a quarter of an hour; the tests of the tool and the gate run small versions
    "python3 -m venv bench && bench/bin/pip install -e . torch safetensors h5py 'zarr>=3' tensorizer matplotlib",
    "python3.11 -m venv ms && ms/bin/pip install mindspore==2.10.0 'numpy<2' -e .",
    (
        "bench/bin/python tools/bench.py all --mindspore ms/bin/python --json docs/benchmarks.json"
        " --plot docs/images/benchmarks.svg --markdown docs/benchmarks.md"
    ),
}
FRAMEWORKS = re.compile(r"\b(?:import|frameworks\.)\s?(mindspore|torch|xarray|zarr|matplotlib)\b")
WITH_PYTHON = [name for name, text in ENGLISH.items() if blocks(text, "python", "pycon") and name not in ELSEWHERE]
COMMANDS = [(name, line) for name, text in ENGLISH.items() if name not in ELSEWHERE for line in commands(text)]
LINK = re.compile(r"""(?:\]\(|src=\"|srcset=\"|href=\")(?!https?:|#)([^)"#\s]+)""")


@pytest.fixture
def furnished(tmp_path, monkeypatch):
    """Creates the files that a page uses, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda name: furnish(name, tmp_path, monkeypatch)


@pytest.fixture(scope="module", autouse=True)
def _nothing_left():
    """No thread of lazyckpt is left; threads of frameworks may be. Open files are checked for each page."""
    yield
    assert [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith("lazyckpt-") and "save" not in thread.name
    ] == []


@pytest.fixture
def session():
    """The variables in the session of a page. Open checkpoints and indexes are closed at the end."""
    names = {"__name__": "page"}
    yield names
    for value in names.values():
        if isinstance(value, (lazyckpt.Checkpoint, lazyckpt.Index)):
            value.close()
    names.clear()
    vars(builtins).pop("_", None)  # the last value displayed in a session with prompts


def test_there_is_something_to_run():
    """Pages with Python and commands exist, and so do the suites for the other pages."""
    assert {"README.md", "docs/start.md", "docs/guides/nets.md", "docs/migration.md"} <= set(WITH_PYTHON)
    assert COMMANDS
    assert [suite for suite in ELSEWHERE.values() if not (ROOT / "tests" / suite).is_file()] == []


@pytest.mark.parametrize("name", WITH_PYTHON)
def test_its_python_runs(name, furnished, session, capsys):
    """The blocks of a page run as one session. Blocks with prompts print the output that is shown.

    A block that imports a framework that is not installed is only compiled.
    """
    furnished(name)
    for number, block in enumerate(blocks(PAGES[name], "python", "pycon")):
        if not all(map(importlib.util.find_spec, FRAMEWORKS.findall(block))):
            compile(block, f"{name}, block {number}", "exec")
        elif block.startswith(">>> "):
            example = doctest.DocTestParser().get_doctest(block, session, f"block {number}", name, 0)
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
            assert runner.run(example, clear_globs=False).failed == 0, capsys.readouterr().out
            session.update(example.globs)
        else:
            exec(compile(block, f"{name}, block {number}", "exec"), session)  # the repository's own text


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_its_commands_run(name, command, furnished, capsys):
    """Every command exits with 0."""
    furnished(name)
    program, *arguments = shlex.split(command.partition("|")[0], comments=True)
    if program == "lazyckpt":
        if arguments[0] == "convert":  # the output does not exist yet
            Path(arguments[2]).unlink(missing_ok=True)
        with pytest.raises(SystemExit) as ended:
            cli.app(arguments)
        code = ended.value.code or 0
    else:
        code = subprocess.run(
            [sys.executable, ROOT / arguments[0], *arguments[1:]], check=False, env=os.environ
        ).returncode

    assert code == 0, capsys.readouterr().err


def test_every_line_of_shell_is_run_somewhere():
    """Every line of shell runs here, in another suite, in the gate, or in the tests of a tool."""
    lines = {line for text in ENGLISH.values() for block in blocks(text, "sh") for line in block.splitlines()}
    run_here = {line for text in ENGLISH.values() for line in commands(text)}
    tools = {line for line in lines if line.startswith("python tools/")}

    assert lines - run_here - tools == BY_THE_GATE | BY_HAND


@pytest.mark.parametrize("name", PAGES)
def test_what_it_shows_and_links_to_is_there(name):
    """Linked images and files exist in the repository."""
    folder = (ROOT / name).parent
    links = {link for link in LINK.findall(PAGES[name]) if not (folder / link).is_file()}

    assert links == set()


def test_every_page_is_in_the_navigation():
    """The navigation lists exactly the pages that exist."""
    listed = set(re.findall(r"^ +- .*?: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))

    assert {f"docs/{page}" for page in listed} == set(ENGLISH) - {"README.md"}


def test_every_python_file_that_is_named_is_there():
    """Tests, tools, modules and notebooks that are named by path exist."""
    named = {
        (page, path)
        for page, text in ENGLISH.items()
        for path in re.findall(r"\b((?:tests|tools|lazyckpt|examples)/[\w/]+\.(?:py|ipynb))\b", text)
    }

    assert {(page, path) for page, path in named if not Path(ROOT, path).is_file()} == set()
