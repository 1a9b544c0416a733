"""Hostile safetensors files: lazyckpt refuses what the safetensors package refuses."""

from __future__ import annotations

import pytest
import safetensors
from safetensors_files import raw

import lazyckpt
from lazyckpt.errors import CorruptFile

# Headers with a placeholder for a zero, and the payloads that match them.
OFFSET = ('{"w": {"dtype": "F32", "shape": [2], "data_offsets": [%s, 8]}}', b"\0" * 8)
DIMENSION = ('{"w": {"dtype": "F32", "shape": [%s], "data_offsets": [0, 0]}}', b"")


@pytest.mark.parametrize(("header", "contents"), [OFFSET, DIMENSION])
@pytest.mark.parametrize("zero", ["-0", "0.0", "-0.0", "0e0", "00", "+0", "false", '"0"'])
def test_a_zero_that_is_no_size_is_refused(zero, header, contents, tmp_path):
    """A zero offset or dimension has one valid spelling, without a sign, fraction or quotes."""
    file = tmp_path / "net.safetensors"
    file.write_bytes(raw(header % "0", contents))
    lazyckpt.load_checkpoint(str(file), format="safetensors").close()
    file.write_bytes(raw(header % zero, contents))

    with pytest.raises(CorruptFile):
        lazyckpt.load_checkpoint(str(file), format="safetensors")
    with pytest.raises(safetensors.SafetensorError):
        safetensors.deserialize(file.read_bytes())
