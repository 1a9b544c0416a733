"""Fixtures of the tests of references."""

from __future__ import annotations

import pytest
from checkpoints import MIXED, checkpoint


@pytest.fixture
def path(tmp_path):
    """A checkpoint with every kind of value."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(checkpoint(MIXED))
    return path
