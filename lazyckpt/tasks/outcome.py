"""What a task is, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from lazyckpt.errors import WorkerDied

Task = Callable[..., Any]
Calls = Sequence[tuple[Any, ...]]


class Executor(Protocol):
    """What `concurrent.futures` calls an Executor."""

    def submit(self, fn: Task, /, *args: Any, **kwargs: Any) -> Any:
        """Run a function some time; its Future."""


Where = Executor | Any | None


class Outcome(NamedTuple):
    """What became of a task.

    Attributes:
        number: which of the calls it was.
        value: what it gave.
        fault: what it raised, or why it could not be run; None if it went well.
        died: whether the worker died that ran it, and nothing else.
    """

    number: int
    value: Any = None
    fault: BaseException | None = None
    died: bool = False

    def result(self) -> Any:
        """What the task gave.

        Raises:
            BaseException: what it raised.
            WorkerDied: it killed its worker.
        """
        if self.died:
            raise WorkerDied(f"a task killed its worker, was it out of memory? ({self.fault})") from self.fault
        if self.fault is not None:
            raise self.fault
        return self.value
