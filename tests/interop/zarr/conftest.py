"""zarr and dask keep threads of their own for as long as the process lives."""

from __future__ import annotations

import threading

import pytest


@pytest.fixture(scope="module", autouse=True)
def _nothing_left():
    """No thread of lazyckpt's own is left; files are looked after test by test."""
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("lazyckpt")] == []
