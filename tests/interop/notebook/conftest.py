"""The tour, run once in a real kernel; and one browser for all."""

from __future__ import annotations

import threading

import nbclient
import nbformat
import pytest
from page import TOUR, browser


@pytest.fixture(scope="session")
def executed():
    """The tour with its outputs, run from top to bottom."""
    notebook = nbformat.read(TOUR, as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(TOUR.parent)}}).execute()
    return notebook


@pytest.fixture(scope="session")
def chrome():
    """A running browser."""
    with browser() as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def _nothing_left():
    """No thread of lazyckpt's own is left; matplotlib keeps its fonts open, and the browser lives to the end."""
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("lazyckpt")] == []
