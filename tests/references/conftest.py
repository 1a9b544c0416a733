"""The checkpoint that references are made to."""

from __future__ import annotations

import pytest
from checkpoints import MIXED, checkpoint


@pytest.fixture
def path(tmp_path):
    """A checkpoint of one of each kind."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(checkpoint(MIXED))
    return path
