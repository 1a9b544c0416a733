"""Tasks, run wherever they can be: here, on an `Executor` of Python's, on a dask cluster.

A task is a function of a module and its arguments, all of which can be pickled unless it runs here. Its fault is its
own: it becomes the task's outcome, and the others go on. So does the death of a worker: what was on it runs again, one
task at a time, so that only one that kills its worker by itself has that as its outcome.
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
        calls: its arguments, a tuple a call.
        where: None for here, one after the other; an Executor; or a dask `Client`, whose workers must have lazyckpt,
            and see files under the same paths.
        labels: what a dashboard calls each call.

    Returns:
        The outcomes, as they come. What has not begun is given up when the iterator is closed.

    Raises:
        ArgumentTypeError: `where` is none of these.
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
    """Whether it is a dask `Client`, of whatever class: told by names, so that dask is not imported to find out."""
    return any(
        kind.__name__ == "Client" and kind.__module__.partition(".")[0] == "distributed" for kind in type(where).__mro__
    )


def _here(task: Task, calls: Calls) -> Iterator[Outcome]:
    for number, call in enumerate(calls):
        try:
            outcome = Outcome(number, task(*call))
        except Exception as error:  # noqa: BLE001 (it is told, not swallowed)
            outcome = Outcome(number, fault=error)
        yield outcome
