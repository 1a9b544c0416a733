"""Fixtures and checks for all tests: a private cache, closed files, repeatable examples."""

from __future__ import annotations

import gc
import importlib.util
import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, find, settings
from hypothesis.strategies import none

from lazyckpt import saving
from lazyckpt.index import build

# The reference parser is the pure-Python one that MindSpore selects. Must be set before protobuf is imported.
os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")

# `pytest --hypothesis-profile=explore` searches for new examples.
# A slow machine must not fail a test.
unhurried = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
# The default runs a third of the examples; the gate runs all of them once (`--hypothesis-profile=same`), and a tenth
# where only the interpreter is another (`fewest`).
settings.register_profile("fewest", max_examples=10, derandomize=True, **unhurried)
settings.register_profile("fewer", max_examples=33, derandomize=True, **unhurried)
settings.register_profile("same", derandomize=True, **unhurried)
settings.register_profile("explore", max_examples=3000, **unhurried)
settings.load_profile("fewer")

# Suites that need a framework or a notebook run only where it is installed.
BESIDE = {
    "distributed": "dask",
    "mindspore": "mindspore",
    "nbclient": "notebook",
    "s3fs": "remote",
    "torch": "torch",
    "zarr": "zarr",
}
collect_ignore = [
    f"interop/{folder}" for framework, folder in BESIDE.items() if importlib.util.find_spec(framework) is None
]

DESCRIPTORS = Path("/proc/self/fd")
PASSED = pytest.StashKey[bool]()


def pytest_collection_finish():
    """Freeze objects from imports and collection, so that garbage collections skip them."""
    # On its first example, Hypothesis looks for references to its random generator, and cannot find frozen ones.
    find(none(), lambda _: True)
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Record whether the test itself passed. The traceback of a failed test keeps its files open."""
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report


@pytest.fixture
def held():
    """Blocks background saves until `set` is called."""
    gate = threading.Event()
    saving._background_work.submit(gate.wait, 20)
    yield gate
    gate.set()


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    """A private cache folder for indexes, in place of the user's."""
    folder = tmp_path / "cache folder"
    monkeypatch.setenv("LAZYCKPT_CACHE", str(folder))
    return folder


@pytest.fixture
def walks(monkeypatch):
    """The names of the files that are scanned, in order."""
    seen = []

    def scan(source, name):
        seen.append(source.name)
        return real(source, name)

    real = build.find
    monkeypatch.setattr(build, "find", scan)
    return seen


@pytest.fixture(autouse=True)
def _closed_files(request, tmp_path):
    """After a test that passed, no file in its temporary folder is open."""
    yield
    if request.node.stash.get(PASSED, False) and _open_in(tmp_path):
        gc.collect()
        assert _open_in(tmp_path) == []


LASTING = "lazyckpt-save"  # the thread of background saves lives on
NOTHING = {"files": set(), "threads": set(), "processes": set()}
PATIENCE = 10  # seconds to wait for threads and processes that are ending


@pytest.fixture(scope="module", autouse=True)
def _nothing_left():
    """After a module, no more descriptors, lazyckpt threads or processes exist than before."""
    before = _held()
    yield
    until = time.monotonic() + PATIENCE
    while (left := {kind: now - before[kind] for kind, now in _held().items()}) != NOTHING and time.monotonic() < until:
        gc.collect()
        time.sleep(0.01)
    assert left == NOTHING


def _held():
    """The resources of this process: files other than devices, threads, and children."""
    files = {target for target in _targets() if target.startswith("/") and not target.startswith(("/dev", "/proc"))}
    return {
        "files": files,
        "threads": {thread.name for thread in threading.enumerate() if not thread.name.startswith(LASTING)},
        "processes": {child.pid for child in multiprocessing.active_children()},
    }


@pytest.fixture(scope="session")
def entry_point():
    """The `lazyckpt` command, built once. `cli.app` would build it from its functions on every call."""
    from typer.main import get_command

    from lazyckpt import cli

    return get_command(cli.app)


@pytest.fixture
def run(entry_point, capsys):
    """Run a command; returns the exit code, stdout and stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            entry_point(list(arguments))
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


def _open_in(folder):
    return sorted(target for target in _targets() if target.startswith(f"{folder}{os.sep}"))


def _targets():
    """The targets of the open descriptors of this process."""
    if not DESCRIPTORS.exists():
        return []
    targets = []
    for descriptor in os.listdir(DESCRIPTORS):
        try:
            targets.append(os.readlink(DESCRIPTORS / descriptor))
        except OSError:  # closed since it was listed
            continue
    return targets
