"""Tasks on an `Executor`, and what is left of them when a process of a pool dies.

Rules. A `ProcessPoolExecutor` whose process dies gives up all its tasks and cannot be used again. So only as many are
handed to it as it can begin soon: those are the suspects, which run again one at a time, in a process that is replaced
when it dies. What was not handed out yet goes on in a new pool of the same kind. Executors of other kinds that break
have no such second life: their tasks end with the reason.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from typing import Any, Final, NamedTuple

from lazyckpt.tasks.outcome import Calls, Executor, Outcome, Task

_AHEAD: Final = 2  # tasks handed out for each worker


class _Left(NamedTuple):
    """What a broken executor left: the tasks it had, and those it was not given."""

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
    """Run tasks until they are done, or the executor breaks."""
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
    """Run tasks alone, so that one that kills its process takes no other with it."""
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
    """Wait for a task."""
    try:
        fault = future.exception()
    except CancelledError as error:
        fault = error
    return Outcome(number, fault=fault) if fault is not None else Outcome(number, future.result())


class _Pools(NamedTuple):
    """How to make more pools like one that broke."""

    width: int
    options: dict[str, Any]

    @classmethod
    def like(cls, executor: Executor) -> _Pools | None:
        """The recipe of an executor; None if it is no pool of processes."""
        from concurrent.futures import ProcessPoolExecutor

        if not isinstance(executor, ProcessPoolExecutor):
            return None
        known = vars(executor)
        names = {"mp_context": "_mp_context", "initializer": "_initializer", "initargs": "_initargs"}
        options = {option: known[name] for option, name in names.items() if name in known}
        return cls(known.get("_max_workers", 1), options)

    def new(self, width: int) -> Any:
        """A pool."""
        from concurrent.futures import ProcessPoolExecutor

        return ProcessPoolExecutor(width, **self.options)
