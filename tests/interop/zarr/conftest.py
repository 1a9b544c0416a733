"""Fixtures for zarr and dask, whose threads live as long as the process."""

from __future__ import annotations

import threading

import pytest


@pytest.fixture(scope="module", autouse=True)
def _nothing_left():
    """No thread of lazyckpt is left; files are checked after each test."""
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("lazyckpt")] == []
