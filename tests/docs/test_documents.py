"""README and handbook are true: their Python runs, so do their commands, and what they link to is there."""

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

# Pages whose blocks need a store or a cluster, and the suites that run them beside real ones.
ELSEWHERE = {"docs/remote.md": "interop/remote/test_docs.py", "docs/scale.md": "interop/dask/test_cluster.py"}
# What .ci/run does: the README's commands, the set-up of a developer, the wheel, the handbook.
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
BY_HAND = {  # a quarter of an hour; the tool's own tests and the gate run it in small
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
    """Makes what a page speaks of, in the folder in which its code runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda name: furnish(name, tmp_path, monkeypatch)


@pytest.fixture(scope="module", autouse=True)
def _nothing_left():
    """No thread of lazyckpt's own is left; frameworks keep theirs, and fonts. Files are looked after page by page."""
    yield
    assert [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith("lazyckpt-") and "save" not in thread.name
    ] == []


@pytest.fixture
def session():
    """The names of a page's session; when it is over nothing of it is kept open."""
    names = {"__name__": "page"}
    yield names
    for value in names.values():
        if isinstance(value, (lazyckpt.Checkpoint, lazyckpt.Index)):
            value.close()
    names.clear()
    vars(builtins).pop("_", None)  # the last value that a session with prompts showed


def test_there_is_something_to_run():
    """The README and the guides have examples, and what is run elsewhere is there."""
    assert {"README.md", "docs/start.md", "docs/guides/nets.md", "docs/migration.md"} <= set(WITH_PYTHON)
    assert COMMANDS
    assert [suite for suite in ELSEWHERE.values() if not (ROOT / "tests" / suite).is_file()] == []


@pytest.mark.parametrize("name", WITH_PYTHON)
def test_its_python_runs(name, furnished, session, capsys):
    """The blocks of a page follow each other as in one session; those with prompts also print what they say.

    What imports a framework that is not installed is compiled only.
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
            exec(compile(block, f"{name}, block {number}", "exec"), session)  # its own text


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_its_commands_run(name, command, furnished, capsys):
    """Each ends with exit code 0."""
    furnished(name)
    program, *arguments = shlex.split(command.partition("|")[0], comments=True)
    if program == "lazyckpt":
        if arguments[0] == "convert":  # a reader has what a page speaks of, but not yet what this line writes
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
    """Here, in the suites of stores and clusters, by the gate, or (tools) in the tool's own tests."""
    lines = {line for text in ENGLISH.values() for block in blocks(text, "sh") for line in block.splitlines()}
    run_here = {line for text in ENGLISH.values() for line in commands(text)}
    tools = {line for line in lines if line.startswith("python tools/")}

    assert lines - run_here - tools == BY_THE_GATE | BY_HAND


@pytest.mark.parametrize("name", PAGES)
def test_what_it_shows_and_links_to_is_there(name):
    """Pictures and files of this repository."""
    folder = (ROOT / name).parent
    links = {link for link in LINK.findall(PAGES[name]) if not (folder / link).is_file()}

    assert links == set()


def test_every_page_is_in_the_navigation():
    """And what the navigation names is there."""
    listed = set(re.findall(r"^ +- .*?: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))

    assert {f"docs/{page}" for page in listed} == set(ENGLISH) - {"README.md"}


def test_every_python_file_that_is_named_is_there():
    """Tests, tools and modules that pages speak of by their paths."""
    named = {
        (page, path)
        for page, text in ENGLISH.items()
        for path in re.findall(r"\b((?:tests|tools|lazyckpt|examples)/[\w/]+\.(?:py|ipynb))\b", text)
    }

    assert {(page, path) for page, path in named if not Path(ROOT, path).is_file()} == set()
