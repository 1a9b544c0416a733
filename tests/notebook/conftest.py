"""The tour, run once in a real kernel; and one browser for all."""

from __future__ import annotations

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
