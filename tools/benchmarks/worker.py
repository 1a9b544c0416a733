"""One task in a process of its own, timed a turn at a time.

    python -m benchmarks.worker

Each line on stdin asks for one thing, as JSON: a job (`task`, `imports`, `arguments`) is made ready; `turn` times so
many calls; `check` is a turn of one call that also gives a digest of what came; `keep` calls so often and keeps the
last result, whose private memory `private` tells. Each line on stdout answers one of them. Whatever else is
printed goes to stderr.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.task import Task, resolve

Answer = dict[str, Any]


class Worker:
    """What is asked of one process."""

    def __init__(self) -> None:
        self._task: Task | None = None
        self._kept: object = None
        self._private: int | None = None
        self._asked: dict[str, Callable[[Any], Answer]] = {
            "job": self._ready,
            "turn": self._turn,
            "check": self._check,
            "keep": self._keep,
            "private": self._held,
        }

    def answer(self, asked: dict[str, Any]) -> Answer:
        """The answer to one line."""
        ((what, argument),) = asked.items()
        return self._asked[what](argument)

    def _ready(self, job: dict[str, Any]) -> Answer:
        self._task = self._kept = None
        for name in job["imports"]:
            module, _, attribute = name.partition(":")
            imported = importlib.import_module(module)
            if attribute:
                getattr(imported, attribute)  # lazyckpt imports a public name when it is first asked for
        arguments = job["arguments"]
        for name in ("key", "dec_key", "enc_key"):
            if name in arguments:
                arguments[name] = bytes.fromhex(arguments[name])
        task = resolve(job["task"])
        gc.collect()
        self._private = private()
        self._task = task(**arguments)
        return {}

    def _turn(self, calls: int) -> Answer:
        """So many calls in a row.

        The median `seconds` of one thing that a call does; the most resident memory of the process during them
        (`peak`); that less what was resident before (`extra`). Memory is None where /proc does not tell.
        """
        answer = self._timed(calls)[0]
        gc.collect()  # what is mapped still could not be taken out of the page cache, by another side that has the file
        return answer

    def _check(self, _: object) -> Answer:
        answer, result = self._timed(1)
        seen = self._made().seen
        found = None if seen is None else digest(seen(result))
        del result
        gc.collect()
        return {**answer, "digest": found}

    def _timed(self, calls: int) -> tuple[Answer, object]:
        """What `turn` answers, and what the last call gave."""
        task = self._made()
        gc.collect()
        before, seconds, result = _resident("VmRSS"), [], None
        _reset_peak()
        for _ in range(calls):
            result = None
            task.before()
            start = time.perf_counter()
            result = task.call()
            seconds.append((time.perf_counter() - start) / task.count)
        peak = _resident("VmHWM")
        extra = None if peak is None or before is None else max(0, peak - before)
        return {"seconds": statistics.median(seconds), "peak": peak, "extra": extra}, result

    def _keep(self, calls: int) -> Answer:
        task, start = self._made(), time.perf_counter()
        for _ in range(calls):
            self._kept = None
            self._kept = task.call()
        return {"seconds": (time.perf_counter() - start) / calls / task.count}

    def _held(self, _: object) -> Answer:
        now = private()
        return {"private": None if now is None or self._private is None else max(0, now - self._private)}

    def _made(self) -> Task:
        if self._task is None:
            raise ValueError("no job was given")
        return self._task


def digest(values: Any) -> str:
    """Of names and the bytes of their arrays, or of anything else by its text; the order does not matter."""
    parts = []
    for name, value in values:
        found = hashlib.sha256(str(name).encode())
        for piece in _pieces(value):
            found.update(piece)
        parts.append(found.digest())
    return hashlib.sha256(b"".join(sorted(parts))).hexdigest()


def _pieces(value: Any) -> Iterator[bytes | memoryview]:
    if hasattr(value, "detach"):  # torch's
        value = value.detach().numpy()
    if not hasattr(value, "tobytes"):
        yield str(value).encode()
        return
    import numpy as np

    yield f"{value.dtype}{value.shape}".encode()
    yield np.ascontiguousarray(value).reshape(-1).view(np.uint8).data


def private() -> int | None:
    """Bytes of memory that this process shares with no other one."""
    try:
        with open("/proc/self/smaps_rollup", encoding="ascii", errors="replace") as rollup:
            kinds = ("Private_Clean:", "Private_Dirty:")
            return sum(1024 * int(line.split()[1]) for line in rollup if line.startswith(kinds))
    except OSError:
        return None


def main() -> None:
    """Answer line by line until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except Exception as error:  # noqa: BLE001 (whatever it is, the parent puts it in the table)
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


def _resident(what: str) -> int | None:
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            return next(1024 * int(line.split()[1]) for line in status if line.startswith(what))
    except (OSError, StopIteration):
        return None


def _reset_peak() -> None:
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        pass  # then the peak is that since the process began


if __name__ == "__main__":
    main()
