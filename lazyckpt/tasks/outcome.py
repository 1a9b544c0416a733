"""The types of tasks, executors and outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from lazyckpt.errors import WorkerDied

Task = Callable[..., Any]
Calls = Sequence[tuple[Any, ...]]


class Executor(Protocol):
    """The part of a `concurrent.futures.Executor` that is used here."""

    def submit(self, fn: Task, /, *args: Any, **kwargs: Any) -> Any:
        """Schedule a call; returns its future."""


Where = Executor | Any | None


class Outcome(NamedTuple):
    """The outcome of one call.

    Attributes:
        number: the index of the call.
        value: the return value.
        fault: the exception that it raised, or the reason why it could not run; None after a success.
        died: whether the call killed its worker.
    """

    number: int
    value: Any = None
    fault: BaseException | None = None
    died: bool = False

    def result(self) -> Any:
        """The return value.

        Raises:
            BaseException: the exception that the call raised.
            WorkerDied: the call killed its worker.
        """
        if self.died:
            raise WorkerDied(f"a task killed its worker, was it out of memory? ({self.fault})") from self.fault
        if self.fault is not None:
            raise self.fault
        return self.value
