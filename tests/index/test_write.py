"""Sidecars are written in a few ascending transactions, wherever batches end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from entries import MARK, tensor_entry
from store_contract import MIXED, SidecarContract, dump

from lazyckpt.index import write
from lazyckpt.index.footer import Meta
from lazyckpt.index.sidecar import Sidecar

SMALL = 13
SUPPORT = str(Path(__file__).parents[1] / "support")


@pytest.fixture
def _small_batches(monkeypatch):
    """Transactions of a few records, so that every rule is tested across two of them."""
    monkeypatch.setattr(write, "_BATCH", SMALL)


@pytest.mark.usefixtures("_small_batches")
class TestInBatches(SidecarContract):
    """The contract of stores, for a sidecar written in many small transactions."""


@pytest.mark.usefixtures("_small_batches")
@pytest.mark.parametrize("count", [*range(12, 15), *range(24, 29), 39, 50, 52, 53])
@pytest.mark.parametrize("names", [1, 12, 13, 14, 26, 100])
def test_batches_may_end_anywhere(count, names, tmp_path):
    """No parameter or repeated name is lost, wherever a batch ends."""
    entries = [tensor_entry(f"w{place % names}", place) for place in range(count)]
    path = str(tmp_path / "index.lmdb")
    write.write(path, entries, Meta(MARK))
    store = Sidecar(path)

    assert dump(store) == [*{entry.name: entry for entry in entries}.values()]
    assert [store.position(f"w{place}") for place in range(min(count, names))] == [*range(min(count, names))]


def test_written_records_are_counted(tmp_path):
    """The returned facts have the counts found during the scan, as a reader will see them."""
    path = str(tmp_path / "index.lmdb")
    meta = write.write(path, iter(MIXED), Meta(MARK, digests=True))

    assert meta == Meta(MARK, len(MIXED), 1, digests=True)
    assert Sidecar(path).meta == meta


def test_a_small_index_is_a_small_file(tmp_path):
    """A sidecar of a few parameters takes a few pages."""
    path = str(tmp_path / "index.lmdb")
    write.write(path, MIXED, Meta(MARK))

    assert os.path.getsize(path) <= 16_384


def test_the_file_grows_with_what_is_written(tmp_path, monkeypatch):
    """The map grows with the index, and nothing is lost."""
    monkeypatch.setattr(write, "_FIRST_MAP", 2**15)
    entries = [tensor_entry(f"layer{place}.weight", place) for place in range(3000)]
    path = str(tmp_path / "index.lmdb")
    write.write(path, entries, Meta(MARK))

    assert dump(Sidecar(path)) == entries


def test_a_place_that_cannot_be_written_is_an_os_error(tmp_path):
    """An LMDB error becomes an OSError, so that the next location is tried."""
    with pytest.raises(OSError, match="writing the index failed"):
        write.write(str(tmp_path), MIXED, Meta(MARK))


FULL_DISK = """
import resource, signal, sys
from entries import MARK, tensor_entry
from lazyckpt.index import write
from lazyckpt.index.footer import Meta
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    write.write(sys.argv[1], (tensor_entry(f"w{n}", n) for n in range(20_000)), Meta(MARK))
except OSError as error:
    print(error)
"""


def test_a_full_disk_is_an_os_error(tmp_path):
    """A full disk raises an error, without a crash and without a short index."""
    answer = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "index.lmdb")],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": SUPPORT},
        check=True,
    )

    assert answer.stdout.startswith("writing the index failed")


def test_a_fault_of_the_walk_passes_through(tmp_path):
    """An error of the scan passes through, and LMDB is closed."""

    def entries():
        yield from MIXED
        raise ValueError("the file ends here")

    with pytest.raises(ValueError, match="ends here"):
        write.write(str(tmp_path / "index.lmdb"), entries(), Meta(MARK))
