"""The index is written along with its file, and never prevents the file."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest
from checkpoints import MIXED, checkpoint, counting

import lazyckpt
from lazyckpt.index import locations
from lazyckpt.index.write import SidecarWriter
from lazyckpt.writing import sidecar
from lazyckpt.writing.adapters import item_of
from lazyckpt.writing.files import WriteOptions, save

ITEMS = [item_of(name, value) for name, value in MIXED.items()]


def refuse(*arguments, **options):
    """Fail as a full disk does."""
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("method", ["__init__", "add", "finish"])
def test_an_index_that_fails_does_not_fail_its_file(method, tmp_path, monkeypatch, caplog):
    """If the index fails at any point, the file is whole, the log says so, and the index is built on demand."""
    caplog.set_level(logging.INFO, "lazyckpt")
    path = tmp_path / "net.ckpt"
    with monkeypatch.context() as patched:
        patched.setattr(SidecarWriter, method, refuse)
        save(str(path), ITEMS, WriteOptions(align=1))

    assert path.read_bytes() == checkpoint(MIXED)
    assert os.listdir(tmp_path) == ["net.ckpt"]
    assert "the index is not written along: [Errno 28] No space left on device" in caplog.messages
    with lazyckpt.load_checkpoint(path) as ckpt:
        assert list(ckpt) == list(MIXED)


def test_an_index_that_cannot_take_its_place_does_not_fail_its_file(tmp_path):
    """If something else has the index's name, it stays, and the file is written."""
    path = tmp_path / "net.ckpt"
    (tmp_path / "net.ckpt.lmdb").mkdir()
    (tmp_path / "net.ckpt.lmdb" / "kept").touch()
    save(str(path), ITEMS, WriteOptions(align=1))

    assert path.read_bytes() == checkpoint(MIXED)
    assert sorted(os.listdir(tmp_path)) == ["net.ckpt", "net.ckpt.lmdb"]
    assert os.listdir(tmp_path / "net.ckpt.lmdb") == ["kept"]


def test_the_old_index_of_a_file_whose_new_one_fails_is_not_believed(tmp_path, monkeypatch, walks):
    """The old index belongs to another file and is rebuilt."""
    path = tmp_path / "net.ckpt"
    save(str(path), ITEMS, WriteOptions())
    with monkeypatch.context() as patched:
        patched.setattr(SidecarWriter, "add", refuse)
        save(str(path), [item_of("w", counting((3,)))], WriteOptions())
    with lazyckpt.load_checkpoint(path) as ckpt:
        assert list(ckpt) == ["w"]
    assert len(walks) == 1


def test_on_a_network_no_index_is_written_along(tmp_path, monkeypatch):
    """Where LMDB should not be mapped, the index goes to the cache folder when the file is loaded."""
    monkeypatch.setattr(sidecar.locations, "on_network", lambda path: True)
    save(str(tmp_path / "net.ckpt"), ITEMS, WriteOptions())

    assert os.listdir(tmp_path) == ["net.ckpt"]


def test_an_index_of_many_parameters_is_written_in_batches(tmp_path, walks):
    """Batches work for more parameters than one batch holds, some with names longer than LMDB's keys."""
    path = str(tmp_path / "net.ckpt")
    names = [f"{'layer' * (200 if number % 1000 == 7 else 1)}.{number}" for number in range(9000)]
    save(path, [item_of(name, 1) for name in names], WriteOptions())
    with lazyckpt.load_checkpoint(path) as ckpt:
        assert list(ckpt) == names
        assert ckpt[names[7]].item() == ckpt[names[-1]].item() == 1
    assert walks == []


def test_an_index_in_use_stays_valid(tmp_path):
    """A reader of the old index continues to read it."""
    path = str(tmp_path / "net.ckpt")
    save(path, ITEMS, WriteOptions())
    with lazyckpt.load_checkpoint(path) as old:
        inode = os.stat(locations.beside(path)).st_ino
        save(path, [item_of("w", counting((3,)))], WriteOptions())

        assert os.stat(locations.beside(path)).st_ino != inode
        assert list(old.index) == list(MIXED)
        assert old["step"].item() == 17


FULL = """
import os, resource, signal, sys
import numpy as np
from lazyckpt.writing.files import WriteOptions, save
from lazyckpt.writing.adapters import item_of
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
save(sys.argv[1], [item_of("w", np.ones(3, "float32"))], WriteOptions())
print(*os.listdir(os.path.dirname(sys.argv[1])))
"""


def test_a_disk_that_is_too_full_for_an_index_takes_the_file(tmp_path):
    """An LMDB error does not lose a file that is whole."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "net.ckpt")], capture_output=True, encoding="utf-8", check=True
    )

    assert done.stdout == "net.ckpt\n"
