"""Run tasks in this process, on a `concurrent.futures` executor, or on a dask cluster.

A task is a module-level function and its arguments, which must be picklable unless the task runs in this process. An
exception becomes the outcome of its task, and the other tasks continue. If a worker dies, the tasks that were on it run
again one at a time, so only a task that kills its worker on its own gets `WorkerDied` as its outcome.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lazyckpt.errors import ArgumentTypeError
from lazyckpt.tasks.outcome import Calls, Outcome, Task, Where

__all__ = ["Outcome", "Where", "is_client", "run"]


def run(task: Task, calls: Calls, where: Where = None, labels: Sequence[str] = ()) -> Iterator[Outcome]:
    """Run a function on many arguments.

    Args:
        task: a function.
        calls: one tuple of arguments for each call.
        where: None to run the calls in this process, one after the other; an executor; or a dask `Client` whose
            workers have lazyckpt installed and see the files under the same paths.
        labels: the name of each call on a dask dashboard.

    Returns:
        The outcomes, in order of completion. Closing the iterator cancels the calls that have not started.

    Raises:
        ArgumentTypeError: `where` is something else.
    """
    if where is None:
        return _here(task, calls)
    if is_client(where):
        from lazyckpt.tasks.cluster import over_cluster

        return over_cluster(task, calls, where, labels)
    if not callable(getattr(where, "submit", None)):
        raise ArgumentTypeError(
            f"tasks run on a concurrent.futures.Executor or on a dask Client, not on a {type(where).__name__}"
        )
    from lazyckpt.tasks.pools import over_executor

    return over_executor(task, calls, where)


def is_client(where: object) -> bool:
    """Whether it is a dask `Client` or a subclass. Compares names, so that dask is not imported."""
    return any(
        kind.__name__ == "Client" and kind.__module__.partition(".")[0] == "distributed" for kind in type(where).__mro__
    )


def _here(task: Task, calls: Calls) -> Iterator[Outcome]:
    for number, call in enumerate(calls):
        try:
            outcome = Outcome(number, task(*call))
        except Exception as error:  # noqa: BLE001 (it becomes the outcome)
            outcome = Outcome(number, fault=error)
        yield outcome
