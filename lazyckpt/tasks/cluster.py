"""Run tasks on a dask cluster.

Rules. The key of a task names its file, for the dashboard. No task counts as pure, because files change between calls.
dask itself retries the tasks of a dead worker, and gives up a task (`KilledWorker`) that was on several workers that
died; another task may have killed them, so each such task runs once more on its own. A result that was lost with its
worker is computed again. A future is released as soon as its result has been fetched.
"""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any, Final

from lazyckpt.errors import ArgumentTypeError, ArgumentValueError, LazyCkptError
from lazyckpt.tasks.outcome import Calls, Outcome, Task

RETRIES: Final = 2  # our tasks return the faults of a file, so an exception comes from the cluster: try again
CONNECTING: Final = 10  # seconds to wait for a scheduler
_LONGEST_LABEL: Final = 80
_ROUNDS: Final = 4  # attempts to fetch a result that is lost each time


class _Lost(Exception):
    """The result was lost before it could be fetched."""


class _Call:
    """The arguments of a call, wrapped: dask searches plain lists and tuples for its keys."""

    __slots__ = ("arguments",)

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self.arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return _Call, (self.arguments,)


def _called(task: Task, call: _Call) -> Any:
    return task(*call.arguments)


def over_cluster(task: Task, calls: Calls, client: Any, labels: Sequence[str] = ()) -> Iterator[Outcome]:
    """See `tasks.run`.

    Raises:
        ArgumentTypeError: the client is asynchronous.
    """
    if getattr(client, "asynchronous", False):
        raise ArgumentTypeError("an asynchronous dask Client cannot be waited for here: give a synchronous one")
    return _all(task, calls, client, labels)


def _all(task: Task, calls: Calls, client: Any, labels: Sequence[str]) -> Iterator[Outcome]:
    from distributed import KilledWorker

    if calls:
        pickle.dumps(calls[0])  # an argument that cannot be pickled raises its own error, and not one wrapped by dask
    given_up: list[int] = []
    rest: Sequence[int] = range(len(calls))
    for _ in range(_ROUNDS):
        lost: list[int] = []
        for outcome in _round(task, calls, rest, client, labels):
            if isinstance(outcome.fault, KilledWorker):
                given_up.append(outcome.number)
            elif isinstance(outcome.fault, _Lost):
                lost.append(outcome.number)
            else:
                yield outcome
        rest = lost
    for number in sorted([*given_up, *rest]):
        yield _alone(task, calls, number, client, labels)


def _alone(task: Task, calls: Calls, number: int, client: Any, labels: Sequence[str]) -> Outcome:
    """Run one call while no other call is on the cluster."""
    from distributed import KilledWorker

    for _ in range(_ROUNDS):
        (outcome,) = _round(task, calls, [number], client, labels)
        if not isinstance(outcome.fault, _Lost):
            break
    return outcome._replace(died=isinstance(outcome.fault, (KilledWorker, _Lost)))


def _round(task: Task, calls: Calls, numbers: Sequence[int], client: Any, labels: Sequence[str]) -> Iterator[Outcome]:
    """Run some calls; yields their outcomes in order of completion."""
    from distributed import as_completed

    if not numbers:
        return
    run = uuid.uuid4().hex[:12]
    keys = [f"{_label(task, labels, number)}-{run}-{number}" for number in numbers]
    sent = [_Call(calls[number]) for number in numbers]
    futures = client.map(_called, [task] * len(sent), sent, key=keys, pure=False, retries=RETRIES)
    waiting = dict(zip(futures, numbers, strict=True))
    try:
        for future, result in as_completed(futures, with_results=True, raise_errors=False):
            number = waiting.pop(future)
            outcome = _outcome(number, future, result)
            future.release()
            yield outcome
    finally:
        if waiting:
            client.cancel(list(waiting))


def _outcome(number: int, future: Any, result: Any) -> Outcome:
    if future.status == "finished":
        return Outcome(number, result)
    if future.status == "error":
        return Outcome(number, fault=result[1])
    if future.status == "lost":
        return Outcome(number, fault=_Lost("its worker died before the result was fetched"))
    fault = result if isinstance(result, BaseException) else CancelledError(f"the task is {future.status}")
    return Outcome(number, fault=fault)


def _label(task: Task, labels: Sequence[str], number: int) -> str:
    """The key of a task. A dashboard groups tasks by the part before the first dash."""
    kind = task.__name__.strip("_").replace("-", "_")
    return f"lazyckpt_{kind}-{labels[number][:_LONGEST_LABEL]}" if labels else f"lazyckpt_{kind}"


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """A dask client connected to a scheduler, by its address, such as `tcp://host:8786`.

    Raises:
        LazyCkptError: dask is not installed.
        ArgumentValueError: no scheduler answers there.
    """
    try:
        from distributed import Client
    except ImportError:
        raise LazyCkptError("a scheduler needs dask: pip install 'lazyckpt[dask]'") from None
    try:
        client = Client(address, timeout=CONNECTING)
    except (OSError, ValueError) as error:
        raise ArgumentValueError(f"no dask scheduler answers at {address}: {error}") from error
    with client:
        yield client
