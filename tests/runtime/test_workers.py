"""One count of threads for all parallel work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.runtime import workers
from lazyckpt.runtime.workers import MAX_WORKERS, PARALLEL_FROM, processors, worker_count


@pytest.mark.parametrize(("found", "expected"), [(None, 1), (1, 1), (4, 4), (64, MAX_WORKERS)])
def test_there_is_a_thread_for_each_processor_up_to_the_maximum(found, expected, monkeypatch):
    """More threads than the maximum do not finish sooner; an unknown number of processors counts as one."""
    monkeypatch.setattr(workers.os, "cpu_count", lambda: found)

    assert worker_count() == expected


@pytest.mark.parametrize(("nbytes", "expected"), [(0, 1), (PARALLEL_FROM - 1, 1), (PARALLEL_FROM, 4)])
def test_small_work_gets_one_thread(nbytes, expected, monkeypatch):
    """Starting threads costs more than it saves below a certain number of bytes."""
    monkeypatch.setattr(workers.os, "cpu_count", lambda: 4)

    assert worker_count(nbytes=nbytes) == expected


@given(st.integers(-10, 1000), st.none() | st.integers(0, 2**40))
def test_the_callers_choice_is_respected(wanted, nbytes):
    """A number that is asked for is used whatever the size of the work, except that at least one thread is needed."""
    assert worker_count(wanted, nbytes=nbytes) == max(1, wanted)


def test_there_is_at_least_one_processor(monkeypatch):
    """Python may not know how many there are."""
    monkeypatch.setattr(workers.os, "cpu_count", lambda: None)

    assert processors() == 1
