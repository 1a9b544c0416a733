"""Fixtures of the tests of statistics."""

from __future__ import annotations

import pytest
from checkpoints import checkpoint

import lazyckpt


@pytest.fixture
def open_values(tmp_path):
    """Writes values to a file and opens it."""

    def open_values(values, **how):
        (tmp_path / "net.ckpt").write_bytes(checkpoint(values))
        return lazyckpt.load_checkpoint(str(tmp_path / "net.ckpt"), **how)

    return open_values
