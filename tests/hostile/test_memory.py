"""Files larger than memory, which MindSpore 2.10 refuses and lazyckpt opens."""

from __future__ import annotations

import os

import numpy as np
import pytest
from checkpoints import array_value, chunk, counting, number, varint

import lazyckpt


@pytest.fixture
def huge(tmp_path):
    """A sparse checkpoint of twice the size of the physical memory."""
    size = 2 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    head = number(1, size) + chunk(2, b"Int8") + b"\x1a" + varint(size)
    inner = chunk(1, b"huge") + b"\x12" + varint(len(head) + size) + head
    path = tmp_path / "net.ckpt"
    with open(path, "wb") as file:
        file.write(b"\x0a" + varint(len(inner) + size) + inner)
        file.seek(size - 1, os.SEEK_CUR)
        file.write(b"\7" + array_value("small", counting((3,))))
    return path, size


def test_a_file_of_twice_the_memory_is_opened_and_its_ends_are_read(huge):
    """It opens with and without an index, and its ends are readable."""
    path, size = huge
    for _ in ("cold", "warm"):
        with lazyckpt.load_checkpoint(str(path)) as ckpt:
            assert ckpt["huge"].shape == (size,)
            assert ckpt["huge"][-2:].tolist() == [0, 7]
            assert np.array_equal(ckpt["small"].asnumpy(), counting((3,)))
