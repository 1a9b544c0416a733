"""A checkpoint with values of all kinds, open over bytes and as a file."""

from __future__ import annotations

import pytest
from checkpoints import MIXED, checkpoint
from opening import opened_over

from lazyckpt.sources import BytesSource

DATA = checkpoint(MIXED)


@pytest.fixture
def ckpt():
    """A checkpoint with values of all kinds."""
    return opened_over(BytesSource(DATA))


@pytest.fixture
def file(tmp_path):
    """The same checkpoint as a file."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(DATA)
    return path
