"""One task in its own process, timed one turn at a time.

    python -m benchmarks.worker DESCRIPTOR

The pipe brings requests: the name of a method of `Worker`, and its arguments. Each gets an answer.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.tasks import Pairs, Task, forget

Answer = dict[str, Any]


class Worker:
    """The requests that a process answers."""

    def ready(self, imports: Iterable[str], task: Callable[..., Task], arguments: dict, what: str) -> Answer:
        """Import what a task needs, record the memory that this took, and prepare the task."""
        self._task = self._kept = None
        self._forget = partial(forget, what, **arguments)
        for name in imports:
            module, _, attribute = name.partition(":")
            imported = importlib.import_module(module)
            if attribute:
                getattr(imported, attribute)  # lazyckpt imports a public name on first use
        gc.collect()
        self._private = private()
        self._task: Task = task(**arguments)
        return {}

    def turn(self, calls: int, check: bool = False) -> Answer:
        """Time some calls: median, peak memory, `extra` beyond what was resident before; `check`: also a digest."""
        task, seconds, result = self._task, [], None
        gc.collect()
        before = _memory("status", "VmRSS:")
        with suppress(OSError):  # where that fails, the peak is that since the process began
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        for _ in range(calls):
            result = None
            self._forget()
            start = time.perf_counter()
            result = task.call()
            passed = time.perf_counter() - start
            seconds.append(task.seconds(result) if task.seconds else passed / task.count)
        answer: Answer = {"seconds": statistics.median(seconds), "peak": _memory("status", "VmHWM:")}
        answer["extra"] = answer["peak"] and max(0, answer["peak"] - before)
        seen = task.seen(result) if check else None
        answer["digest"] = None if seen is None else digest(seen)
        seen = result = None
        gc.collect()  # pages that are still mapped would stay in the page cache when another side wants its file cold
        return answer

    def keep(self, calls: int) -> Answer:
        """Time so many calls as one, keep the last result, and give the private memory beyond that after imports."""
        start = time.perf_counter()
        for _ in range(calls):
            self._kept = None
            self._kept = self._task.call()
        seconds, now = time.perf_counter() - start, private()
        return {"seconds": seconds / calls / self._task.count, "private": now and max(0, now - self._private)}


def digest(values: Pairs) -> str:
    """A digest of names and the bytes of their arrays, or of other values by their text; the order does not matter."""
    parts = []
    for name, value in values:
        found = hashlib.sha256(str(name).encode())
        array = value.detach().numpy() if hasattr(value, "detach") else value  # torch
        array = array.asnumpy() if hasattr(array, "asnumpy") else array  # MindSpore
        if hasattr(array, "tobytes"):
            found.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
        else:
            found.update(str(array).encode())
        parts.append(found.digest())
    return hashlib.sha256(b"".join(sorted(parts))).hexdigest()


def private() -> int | None:
    """Bytes of memory that this process shares with no other."""
    return _memory("smaps_rollup", "Private_Clean:", "Private_Dirty:")


def _memory(file: str, *kinds: str) -> int | None:
    """The bytes of these kinds of memory in a file of /proc; None if the file is missing."""
    with suppress(OSError), open(f"/proc/self/{file}", encoding="ascii", errors="replace") as lines:
        return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(kinds))


def main() -> None:
    """Answer requests until the pipe ends."""
    pipe, worker = Connection(int(sys.argv[1])), Worker()
    with suppress(EOFError):
        while True:
            what, arguments = pipe.recv()
            try:
                answer = getattr(worker, what)(*arguments)
            except Exception as error:  # noqa: BLE001 (the parent shows any error in the table)
                answer = {"error": f"{type(error).__name__}: {error}"}
            pipe.send(answer)


if __name__ == "__main__":
    main()
