"""`Outcome`: the value of a task, or its error."""

from __future__ import annotations

import pytest

from lazyckpt.errors import LazyCkptError, WorkerDied
from lazyckpt.tasks.outcome import Outcome


@pytest.mark.parametrize("value", [None, 0, "text", ValueError("given, not raised")], ids=str)
def test_a_task_that_went_well_gives_its_value(value):
    """A successful task gives its value, also None or a returned exception."""
    assert Outcome(3, value).result() is value


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_a_task_that_failed_raises_its_own_fault(kind):
    """A failed task raises its own exception, each time."""
    fault = kind("where it was")
    for _ in range(2):
        with pytest.raises(kind) as caught:
            Outcome(0, fault=fault).result()

        assert caught.value is fault


def test_a_task_that_killed_its_worker_raises_worker_died():
    """A task that killed its worker raises `WorkerDied`, with the pool's error as the cause."""
    fault = RuntimeError("a process ended abruptly")
    with pytest.raises(WorkerDied, match=r"killed its worker, .*\(a process ended abruptly\)") as caught:
        Outcome(0, fault=fault, died=True).result()

    assert caught.value.__cause__ is fault
    assert isinstance(caught.value, LazyCkptError)
