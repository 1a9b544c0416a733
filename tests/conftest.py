"""What holds for every test: its own cache folder, no file of its own left open, the same examples every time."""

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

# The oracle for what a file may look like is the parser that MindSpore forces. Asked for before protobuf is imported.
os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")

# `pytest --hypothesis-profile=explore` looks for examples that nobody has seen.
# How fast a machine is fails no test.
unhurried = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
# A third of them stands for all while one works; the gate takes all (`--hypothesis-profile=same`).
settings.register_profile("fewer", max_examples=33, derandomize=True, **unhurried)
settings.register_profile("same", derandomize=True, **unhurried)
settings.register_profile("explore", max_examples=3000, **unhurried)
settings.load_profile("fewer")

# The suites beside a real framework, and in a real notebook, run where there is one.
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
    """Leave what was imported and collected out of every later search for garbage: it stays until the end anyhow."""
    # At its first example, Hypothesis asks who holds its random numbers, and would not find what is frozen.
    find(none(), lambda _: True)
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Remember whether the test itself passed: the traceback of one that failed keeps its files open."""
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report


@pytest.fixture
def held():
    """Holds up what is done in the background until `set` is called."""
    gate = threading.Event()
    saving._background_work.submit(gate.wait, 20)
    yield gate
    gate.set()


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    """Indexes that cannot stand beside their file go here, never to the user's own cache."""
    folder = tmp_path / "cache folder"
    monkeypatch.setenv("LAZYCKPT_CACHE", str(folder))
    return folder


@pytest.fixture
def walks(monkeypatch):
    """Counts how often a file is walked: `len(walks)`."""
    seen = []

    def scan(source, name):
        seen.append(source.name)
        return real(source, name)

    real = build.find
    monkeypatch.setattr(build, "find", scan)
    return seen


@pytest.fixture(autouse=True)
def _closed_files(request, tmp_path):
    """After a test that passed no file in its own folder is open; what a fixture opens, the fixture closes."""
    yield
    if request.node.stash.get(PASSED, False) and _open_in(tmp_path):
        gc.collect()
        assert _open_in(tmp_path) == []


LASTING = "lazyckpt-save"  # what saves in the background waits for more
NOTHING = {"files": set(), "threads": set(), "processes": set()}
PATIENCE = 10  # seconds for what is about to end, as others' threads may be


@pytest.fixture(scope="module", autouse=True)
def _nothing_left():
    """After a module's tests there are no more descriptors, threads of lazyckpt's or processes than before."""
    before = _held()
    yield
    until = time.monotonic() + PATIENCE
    while (left := {kind: now - before[kind] for kind, now in _held().items()}) != NOTHING and time.monotonic() < until:
        gc.collect()
        time.sleep(0.01)
    assert left == NOTHING


def _held():
    """What this process holds: open files but for pipes and terminals, threads, and child processes."""
    files = {target for target in _targets() if target.startswith("/") and not target.startswith(("/dev", "/proc"))}
    return {
        "files": files,
        "threads": {thread.name for thread in threading.enumerate() if not thread.name.startswith(LASTING)},
        "processes": {child.pid for child in multiprocessing.active_children()},
    }


@pytest.fixture(scope="session")
def entry_point():
    """The `lazyckpt` command; `cli.app` would make it of its functions again at every call."""
    from typer.main import get_command

    from lazyckpt import cli

    return get_command(cli.app)


@pytest.fixture
def run(entry_point, capsys):
    """Runs a command: its exit code, what it printed, and its complaints."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            entry_point(list(arguments))
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


def _open_in(folder):
    return sorted(target for target in _targets() if target.startswith(f"{folder}{os.sep}"))


def _targets():
    """What this process's descriptors lead to."""
    if not DESCRIPTORS.exists():
        return []
    targets = []
    for descriptor in os.listdir(DESCRIPTORS):
        try:
            targets.append(os.readlink(DESCRIPTORS / descriptor))
        except OSError:  # closed since it was listed
            continue
    return targets
