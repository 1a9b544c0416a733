"""One task in a process of its own, timed a turn at a time.

    python -m benchmarks.worker

The first line on stdin is the job (`task`, `imports`, `arguments` as JSON); each further line is a number of calls.
Each line on stdout answers one of them. Everything else that is printed goes to stderr.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import statistics
import sys
import time
from typing import Any

from benchmarks.tasks import TASKS, Task


def main() -> None:
    """Answer line by line until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    task: Task | None = None
    for line in sys.stdin:
        try:
            asked = json.loads(line)
            if task is None:
                task, answer = _ready(asked), {}
            else:
                answer = turn(task, asked)
        except Exception as error:  # noqa: BLE001 (whatever it is, the parent puts it in the table)
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


def turn(task: Task, calls: int) -> dict[str, float | int | None]:
    """So many calls in a row.

    Returns:
        `seconds`: their median; `peak`: the most resident memory of the process during them; `extra`: that less what
        was resident before. Memory is None where /proc does not tell.
    """
    gc.collect()
    before, seconds = _resident("VmRSS"), []
    _reset_peak()
    for _ in range(calls):
        task.before()
        start = time.perf_counter()
        result = task.call()
        seconds.append(time.perf_counter() - start)
        del result
    peak = _resident("VmHWM")
    extra = None if peak is None or before is None else max(0, peak - before)
    return {"seconds": statistics.median(seconds), "peak": peak, "extra": extra}


def _ready(job: dict[str, Any]) -> Task:
    for name in job["imports"]:
        module, _, attribute = name.partition(":")
        imported = importlib.import_module(module)
        if attribute:
            getattr(imported, attribute)  # lazyckpt imports a public name when it is first asked for
    arguments = job["arguments"]
    for name in ("key", "dec_key", "enc_key"):
        if name in arguments:
            arguments[name] = bytes.fromhex(arguments[name])
    return TASKS[job["task"]](**arguments)


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
