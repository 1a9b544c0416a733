"""Inject a fault into every system call of a writing task, and check that nothing is lost.

    python tools/crashes.py                        every task, every call, every fault
    python tools/crashes.py --task index --fault KILL

Needs strace. The tool runs each task once to count the system calls that change the disk, and then once for each call
and each fault: a SIGKILL at the start of the call, or an error in its place (no space, an I/O error, no permission).
The contract: the task is killed, succeeds, or ends with an error of lazyckpt or an OSError; the files then open with
either all the old values or all the new ones; and a second run without a fault succeeds and leaves no other files. The
exit code is 1 if a trial violates the contract.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
KEY = bytes(range(16))
CALLS = (
    *("write", "pwrite64", "pwritev", "writev", "ftruncate", "fallocate", "fsync", "fdatasync"),
    *("rename", "renameat", "renameat2", "chmod", "fchmod", "unlink", "unlinkat", "link", "mkdir", "flock"),
    *("copy_file_range", "sendfile"),
)
FAULTS = {"KILL": "signal=SIGKILL", "ENOSPC": "error=ENOSPC", "EIO": "error=EIO", "EACCES": "error=EACCES"}
SHAPES = {"layer.weight": (200, 30), "layer.bias": (30,), "step": ()}
EXPECTED = (0, 3, -9)  # done, refused, killed
_LINE = re.compile(rf"^(?:\d+ +)?({'|'.join(CALLS)})\(", re.MULTILINE)
# A task may succeed, or end with an error meant for users (code 3). Any other exception exits with 1.
PROGRAM = """
import sys
sys.path[:0] = [{tools!r}, {root!r}]
import crashes
from lazyckpt.errors import LazyCkptError
try:
    crashes.TASKS[{task!r}].act(crashes.Path({folder!r}))
except (LazyCkptError, OSError) as error:
    sys.exit(3)
"""


class Task(NamedTuple):
    """A task that writes files.

    Attributes:
        prepare: creates the initial files.
        act: performs the task, in a separate process.
        opened: the generation of the values in the folder: 0 before, 1 after, None if there is no file.
        before: the generations that are allowed after an interruption.
        files: the names in the folder after success.
    """

    prepare: Callable[[Path], object]
    act: Callable[[Path], object]
    opened: Callable[[Path], int | None]
    before: tuple[int | None, ...]
    files: tuple[str, ...]


def values(generation: int) -> dict[str, np.ndarray]:
    """Arrays in which every number is the generation."""
    return {name: np.full(shape, generation, "float32") for name, shape in SHAPES.items()}


def load(name: str, **options: object) -> Callable[[Path], int | None]:
    """A function that opens a file, reads all values, and returns their generation."""

    def opened(folder: Path) -> int | None:
        import lazyckpt

        if not (folder / name).exists():
            return None
        with lazyckpt.load_checkpoint(str(folder / name), **options) as checkpoint:
            found = checkpoint.load()
        assert {key: value.shape for key, value in found.items()} == SHAPES
        numbers = {float(number) for value in found.values() for number in (value.min(), value.max())}
        assert len(numbers) == 1, f"values of several generations: {numbers}"
        return int(numbers.pop())

    return opened


def save(name: str, generation: int, **options: object) -> Callable[[Path], object]:
    """A function that saves a generation of values."""

    def act(folder: Path) -> None:
        import lazyckpt

        lazyckpt.save_checkpoint(values(generation), str(folder / name), **options)

    return act


def index(**options: object) -> Callable[[Path], object]:
    """A function that builds an index."""

    def act(folder: Path) -> None:
        import lazyckpt

        lazyckpt.build_index(folder / "net.ckpt", **options).close()

    return act


def without_index(generation: int, **options: object) -> Callable[[Path], object]:
    """A function that creates a file without an index."""

    def prepare(folder: Path) -> None:
        save("net.ckpt", generation, **options)(folder)
        (folder / "net.ckpt.lmdb").unlink()

    return prepare


def replaced(folder: Path) -> None:
    """Create a file with the index of an older file."""
    save("net.ckpt", 0)(folder)
    old = (folder / "net.ckpt.lmdb").read_bytes()
    save("net.ckpt", 1)(folder)
    (folder / "net.ckpt.lmdb").chmod(0o600)
    (folder / "net.ckpt.lmdb").write_bytes(old)


def convert(source: str, target: str, **options: object) -> Callable[[Path], object]:
    """A function that converts a file to another format."""

    def act(folder: Path) -> None:
        import lazyckpt

        with lazyckpt.load_checkpoint(str(folder / source)) as checkpoint:
            checkpoint.save(folder / target, **options)

    return act


def two(old: str, **options: object) -> Callable[[Path], object]:
    """A function that creates a source of generation 1 and a target of generation 0."""

    def prepare(folder: Path) -> None:
        save("source.ckpt", 1)(folder)
        save(old, 0, **options)(folder)

    return prepare


SET = tuple(f"set-0000{part}-of-00002.safetensors" for part in (1, 2))
LOCKED = {"dec_key": KEY, "dec_mode": "AES-GCM"}
SAVE_LOCKED = {"enc_key": KEY, "enc_mode": "AES-GCM"}
ONE = ("net.ckpt", "net.ckpt.lmdb")
TASKS = {
    "index": Task(without_index(1), index(), load("net.ckpt"), (1,), ONE),
    "index with digests": Task(without_index(1), index(digest="blake2b"), load("net.ckpt"), (1,), ONE),
    "index over a stale one": Task(replaced, index(), load("net.ckpt"), (1,), ONE),
    "index sealed": Task(without_index(1, **SAVE_LOCKED), index(**LOCKED), load("net.ckpt", **LOCKED), (1,), ONE),
    "save": Task(save("net.ckpt", 0), save("net.ckpt", 1), load("net.ckpt"), (0, 1), ONE),
    "save anew": Task(lambda folder: None, save("net.ckpt", 1), load("net.ckpt"), (None, 1), ONE),
    "save encrypted": Task(
        save("net.ckpt", 0, **SAVE_LOCKED),
        save("net.ckpt", 1, **SAVE_LOCKED),
        load("net.ckpt", **LOCKED),
        (0, 1),
        ONE,
    ),
    "convert": Task(
        two("net.safetensors", format="safetensors"),
        convert("source.ckpt", "net.safetensors"),
        load("net.safetensors", format="safetensors"),
        (0, 1),
        ("net.safetensors", "net.safetensors.lmdb", "source.ckpt", "source.ckpt.lmdb"),
    ),
    "save a set": Task(
        save("source.ckpt", 1),
        convert("source.ckpt", "set.safetensors", max_shard_size=20_000),
        load("set.safetensors.index.json", format="safetensors"),
        (None, 1),
        (*(part + ending for part in SET for ending in ("", ".lmdb")), "set.safetensors.index.json", *(
            "source.ckpt", "source.ckpt.lmdb",
        )),
    ),
}  # fmt: skip


class Trial(NamedTuple):
    """A run with a fault; `wrong` describes a violation of the contract, or is empty."""

    task: str
    fault: str
    call: str
    number: int
    code: int
    wrong: str


def strace(task: str, folder: Path, *options: str) -> tuple[int, str]:
    """Run a task under strace in a separate process; returns the exit code and the log."""
    program = PROGRAM.format(tools=str(ROOT / "tools"), root=str(ROOT), task=task, folder=str(folder))
    with tempfile.NamedTemporaryFile("r", prefix="strace-") as log:
        # -B keeps Python from writing .pyc files. Output is captured, so that no injected write is a message.
        command = ["strace", "-f", "-o", log.name, *options, sys.executable, "-B", "-c", program]
        ended = subprocess.run(command, capture_output=True, check=False, timeout=120)
        return ended.returncode, log.read() + ended.stderr.decode(errors="replace")


def counted(task: str, folder: Path) -> Counter[str]:
    """Count the system calls of a task by name."""
    code, log = strace(task, folder, "-e", f"trace={','.join(CALLS)}")
    if code:
        raise SystemExit(f"{task} fails without a fault:\n{log}")
    return Counter(_LINE.findall(log))


def tried(task: str, fault: str, call: str, number: int) -> Trial:
    """Run a task with a fault at one call, and check the files that it leaves."""
    with tempfile.TemporaryDirectory(prefix="lazyckpt-crashes-") as place:
        folder = Path(place, "folder")
        folder.mkdir()
        os.environ["LAZYCKPT_CACHE"] = str(Path(place, "cache"))
        TASKS[task].prepare(folder)
        inject = f"inject={call}:{FAULTS[fault]}:when={number}"
        code, log = strace(task, folder, "-e", f"trace={call}", "-e", inject)
        wrong = _judged(TASKS[task], folder, code) or _repeated(task, folder)
        return Trial(task, fault, call, number, code, wrong and f"{wrong}\n{log[-2000:]}")


def _judged(task: Task, folder: Path, code: int) -> str:
    if code not in EXPECTED and code != 128 + 9:
        return f"the task ended with {code}"
    try:
        found = task.opened(folder)
    except Exception as error:  # noqa: BLE001 (any error means that the files do not open)
        return f"the file does not open: {type(error).__name__}: {error}"
    if found not in task.before:
        return f"the values are of generation {found}"
    return "" if code != 0 or found == 1 else f"the task succeeded but left generation {found}"


def _repeated(name: str, folder: Path) -> str:
    """Run the task again with an empty cache; it must succeed and leave no other files."""
    task = TASKS[name]
    shutil.rmtree(os.environ["LAZYCKPT_CACHE"], ignore_errors=True)
    if name == "save a set" and task.opened(folder) == 1:
        return ""  # a set is never saved over another
    task.act(folder)
    found, left = task.opened(folder), sorted(os.listdir(folder))
    if found != 1 or left != sorted(task.files):
        return f"a second run leaves generation {found} and {json.dumps(left)}"
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Run all trials, print a line for each task and fault, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", action="append", choices=TASKS, help="a task to run (default: all)")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="a fault to inject (default: all)")
    asked = parser.parse_args(arguments)
    if shutil.which("strace") is None:
        parser.error("strace is not installed")
    broken = tries = 0
    for task in asked.task or TASKS:
        with tempfile.TemporaryDirectory(prefix="lazyckpt-crashes-") as place:
            folder = Path(place)
            os.environ["LAZYCKPT_CACHE"] = str(folder / "cache")
            TASKS[task].prepare(folder)
            calls = counted(task, folder)
        for fault in asked.fault or FAULTS:
            start = time.perf_counter()
            trials = [tried(task, fault, call, number) for call in CALLS for number in range(1, calls[call] + 1)]
            wrong = [trial for trial in trials if trial.wrong]
            codes = Counter(trial.code for trial in trials)
            print(
                f"{task}, {fault}: {len(trials)} calls, {codes[0]} done, {codes[3]} refused,"
                f" {codes[-9] + codes[137]} killed, {len(wrong)} wrong, {time.perf_counter() - start:.0f} s",
                flush=True,
            )
            for trial in wrong:
                print(f"  {trial.call} {trial.number}: {trial.wrong}")
            broken, tries = broken + len(wrong), tries + len(trials)
    print(f"{tries} trials, {broken} wrong")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
