"""Run tasks on an executor, and recover when a process of a pool dies.

Rules. When one process of a `ProcessPoolExecutor` dies, the pool fails all its tasks and cannot be used again. So only
as many tasks are submitted as can start soon. If the pool breaks, those run again one at a time, in a process that is
replaced when it dies: this finds the task that kills it. The tasks that were not submitted continue in a new pool of
the same kind. An executor of another kind that breaks is not replaced: its remaining tasks fail with the reason.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from typing import Any, Final, NamedTuple

from lazyckpt.tasks.outcome import Calls, Executor, Outcome, Task

_AHEAD: Final = 2  # submitted tasks for each worker: one runs, one waits


class _Left(NamedTuple):
    """The tasks left after a round: those a broken executor had, and those not yet submitted."""

    suspects: list[int]
    rest: list[int]
    reason: BaseException | None = None


def over_executor(task: Task, calls: Calls, executor: Executor) -> Iterator[Outcome]:
    """See `tasks.run`."""
    left = yield from _round(task, calls, list(range(len(calls))), executor)
    while left.reason is not None:
        again = _Pools.like(executor)
        if again is None:
            for number in (*left.suspects, *left.rest):
                yield Outcome(number, fault=left.reason)
            return
        yield from _one_by_one(task, calls, left.suspects, again)
        if not left.rest:
            return
        with again.new(again.width) as pool:
            left = yield from _round(task, calls, left.rest, pool)


def _round(task: Task, calls: Calls, numbers: list[int], executor: Executor) -> Generator[Outcome, None, _Left]:
    """Run tasks until all are done or the executor breaks."""
    width = getattr(executor, "_max_workers", None)
    most = _AHEAD * width if isinstance(width, int) else len(calls)
    waiting = iter(numbers)
    running: dict[Future[Any], int] = {}
    broken: BaseException | None = None
    suspects: list[int] = []
    try:
        while True:
            while broken is None and len(running) < most:
                number = next(waiting, None)
                if number is None:
                    break
                try:
                    running[executor.submit(task, *calls[number])] = number
                except BrokenExecutor as error:
                    broken = error
                    suspects.append(number)
            if not running:
                return _Left(sorted(suspects), list(waiting), broken)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                number = running.pop(future)
                outcome = _outcome(number, future)
                if isinstance(outcome.fault, BrokenExecutor):
                    broken = outcome.fault
                    suspects.append(number)
                else:
                    yield outcome
    finally:
        for future in running:
            future.cancel()


def _one_by_one(task: Task, calls: Calls, numbers: list[int], pools: _Pools) -> Iterator[Outcome]:
    """Run tasks one at a time, so that a task that kills its process affects no other."""
    pool = None
    try:
        for number in numbers:
            pool = pool or pools.new(1)
            outcome = _outcome(number, pool.submit(task, *calls[number]))
            if isinstance(outcome.fault, BrokenExecutor):
                pool.shutdown()
                pool = None
                outcome = outcome._replace(died=True)
            yield outcome
    finally:
        if pool is not None:
            pool.shutdown()


def _outcome(number: int, future: Future[Any]) -> Outcome:
    """Wait for a task; returns its outcome."""
    try:
        fault = future.exception()
    except CancelledError as error:
        fault = error
    return Outcome(number, fault=fault) if fault is not None else Outcome(number, future.result())


class _Pools(NamedTuple):
    """The settings of a process pool, to create another one."""

    width: int
    options: dict[str, Any]

    @classmethod
    def like(cls, executor: Executor) -> _Pools | None:
        """The settings of an executor; None if it is not a process pool."""
        from concurrent.futures import ProcessPoolExecutor

        if not isinstance(executor, ProcessPoolExecutor):
            return None
        known = vars(executor)
        names = {"mp_context": "_mp_context", "initializer": "_initializer", "initargs": "_initargs"}
        options = {option: known[name] for option, name in names.items() if name in known}
        return cls(known.get("_max_workers", 1), options)

    def new(self, width: int) -> Any:
        """A new pool with this number of processes."""
        from concurrent.futures import ProcessPoolExecutor

        return ProcessPoolExecutor(width, **self.options)
