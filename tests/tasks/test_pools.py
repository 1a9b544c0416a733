"""Each task has its own outcome, wherever it runs, even if its worker dies."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import BrokenExecutor, CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from lazyckpt.errors import ArgumentTypeError, WorkerDied
from lazyckpt.tasks import is_client, run


def square(number):
    """A task."""
    return number * number


def divide(number):
    """A task that fails for the number 3."""
    return 1 / (number - 3)


def square_or_die(number, deadly):
    """A task that kills its process for one of these numbers."""
    if number in deadly:
        os._exit(1)
    return number * number


def calls(count, *more):
    """The arguments of this number of tasks."""
    return [(number, *more) for number in range(count)]


def pool(width=2, **options):
    """A pool of processes."""
    return ProcessPoolExecutor(width, mp_context=multiprocessing.get_context("spawn"), **options)


class Elsewhere:
    """Another library's executor, which is only known to have `submit`."""

    def __init__(self):
        self.submitted = 0

    def submit(self, task, /, *arguments):
        """Run it at once."""
        self.submitted += 1
        future = Future()
        try:
            future.set_result(task(*arguments))
        except ArithmeticError as error:
            future.set_exception(error)
        return future


@pytest.mark.parametrize("where", [None, Elsewhere(), ThreadPoolExecutor(2), pool()], ids=lambda w: type(w).__name__)
def test_every_task_has_its_outcome(where):
    """Results and errors come under the task's number, from any executor."""
    outcomes = sorted(run(divide, calls(9), where), key=lambda outcome: outcome.number)
    if where is not None and hasattr(where, "shutdown"):
        where.shutdown()
    failed = outcomes.pop(3)

    assert [outcome.number for outcome in outcomes] == [0, 1, 2, 4, 5, 6, 7, 8]
    assert [outcome.result() for outcome in outcomes] == [1 / (n - 3) for n in range(9) if n != 3]
    assert isinstance(failed.fault, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        failed.result()


@pytest.mark.parametrize("where", [None, Elsewhere(), ThreadPoolExecutor(1)], ids=lambda w: type(w).__name__)
def test_no_tasks_have_no_outcomes(where):
    """An empty list of tasks is allowed."""
    assert list(run(square, [], where)) == []


@pytest.mark.parametrize("where", [5, "tcp://host:8786", object()], ids=["number", "address", "object"])
def test_what_runs_no_tasks_is_refused(where):
    """An object that cannot run tasks is refused at once, with the alternatives."""
    with pytest.raises(ArgumentTypeError, match="Executor or on a dask Client"):
        run(square, calls(1), where)


def test_only_what_kills_its_process_is_given_up():
    """A broken pool fails all of its tasks: the others run again, and succeed."""
    with pool() as executor:
        outcomes = sorted(run(square_or_die, calls(40, (7, 23)), executor), key=lambda outcome: outcome.number)
    dead = [outcome for outcome in outcomes if outcome.fault is not None]

    assert [(outcome.number, outcome.died, isinstance(outcome.fault, BrokenExecutor)) for outcome in dead] == [
        (7, True, True),
        (23, True, True),
    ]
    assert [outcome.value for outcome in outcomes if outcome not in dead] == [
        number**2 for number in range(40) if number not in (7, 23)
    ]
    with pytest.raises(WorkerDied, match="out of memory"):
        dead[0].result()


def test_a_pool_that_was_broken_before_is_replaced():
    """A pool broken by other tasks does not fail these."""
    with pool(1) as executor:
        executor.submit(os._exit, 1).exception()
        outcomes = sorted(run(square, calls(5), executor))

    assert [outcome.result() for outcome in outcomes] == [0, 1, 4, 9, 16]


def refuse():
    """Prevents a pool from starting."""
    raise ZeroDivisionError


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_executor_that_cannot_be_replaced_says_why(caplog):
    """Each task ends with the reason; none is lost."""
    with ThreadPoolExecutor(1, initializer=refuse) as executor:
        outcomes = sorted(run(square, calls(9), executor), key=lambda outcome: outcome.number)

    assert [outcome.number for outcome in outcomes] == list(range(9))
    assert all(isinstance(outcome.fault, BrokenExecutor) for outcome in outcomes)
    assert not any(outcome.died for outcome in outcomes)


def test_a_pool_is_handed_what_it_can_begin_soon():
    """A pool holds two tasks per worker: others are not affected when it breaks, and take no memory there."""
    gate, begun = threading.Event(), []

    def wait(number):
        begun.append(number)
        gate.wait(20)

    with ThreadPoolExecutor(2) as executor:
        submitted = []
        real = executor.submit
        executor.submit = lambda *what: submitted.append(what) or real(*what)
        outcomes = run(wait, calls(50), executor)
        threading.Timer(0.2, gate.set).start()
        next(outcomes)

        assert len(submitted) == 4
        assert len(list(outcomes)) == 49


def test_an_executor_whose_width_is_not_known_gets_all_tasks():
    """Another library queues tasks itself."""
    executor = Elsewhere()
    next(run(square, calls(50), executor))

    assert executor.submitted == 50


def test_what_is_not_wanted_any_more_does_not_begin():
    """Closing the iterator cancels waiting tasks."""
    begun = []
    with ThreadPoolExecutor(1) as executor:
        outcomes = run(begun.append, calls(50), executor)
        next(outcomes)
        outcomes.close()

    assert len(begun) <= 3


def test_a_task_that_was_cancelled_has_that_as_its_outcome():
    """A cancellation by the executor's owner is the task's outcome."""

    class Cancelling(Elsewhere):
        def submit(self, task, /, *arguments):
            future = Future()
            future.cancel()
            future.set_running_or_notify_cancel()
            return future

    assert [type(outcome.fault) for outcome in run(square, calls(2), Cancelling())] == [CancelledError] * 2


def test_a_client_is_recognized_by_its_class():
    """A client is recognized without importing dask; another library's class of that name is not."""
    assert not is_client(None)
    assert not is_client(type("Client", (), {"__module__": "httpx"})())
    assert is_client(type("Client", (), {"__module__": "distributed.client"})())


def test_an_asynchronous_client_is_refused():
    """The results of an asynchronous client cannot be waited for."""
    client = type("Client", (), {"__module__": "distributed.client", "asynchronous": True})()
    with pytest.raises(ArgumentTypeError, match="asynchronous"):
        run(square, calls(1), client)
