"""`lazyckpt index`: one file or many, fresh indexes, digests and keys."""

from __future__ import annotations

import os
import re

import pytest
from checkpoints import LAYERS, MIXED, checkpoint
from encryption import KEY, encrypted

import lazyckpt
from lazyckpt.index.sidecar import Sidecar


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, with a checkpoint, an encrypted one, and its key in a file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.ckpt").write_bytes(checkpoint(MIXED))
    (tmp_path / "secret.ckpt").write_bytes(encrypted(checkpoint(LAYERS)))
    (tmp_path / "key").write_bytes(KEY)
    return tmp_path


def test_index_builds_the_index(run, folder):
    """`index` prints the number of parameters and the path of the index."""
    code, printed, complaints = run("index", "net.ckpt")

    assert (code, complaints.strip()) == (0, "")
    assert re.fullmatch(rf"net\.ckpt: 8 parameters in .* -> {folder}/net\.ckpt\.lmdb\n", printed)
    assert (folder / "net.ckpt.lmdb").exists()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_index_takes_many_files(jobs, run, folder):
    """A damaged file causes exit code 1 and a message; the other files are indexed."""
    (folder / "bad.ckpt").write_bytes(b"\xff" * 50)
    (folder / "two.ckpt").write_bytes(checkpoint(LAYERS))
    code, printed, complaints = run("index", "bad.ckpt", "net.ckpt", "two.ckpt", "--jobs", jobs)

    assert code == 1
    assert [line.partition(":")[0] for line in printed.splitlines()] == ["net.ckpt", "two.ckpt"]
    assert re.search(r"^bad\.ckpt: .*at byte 0", complaints, re.MULTILINE)
    assert (folder / "two.ckpt.lmdb").exists()


def test_index_can_be_forced(run, folder):
    """A fresh index is kept, unless `--force` is given."""
    run("index", "net.ckpt")
    before = os.stat("net.ckpt.lmdb").st_ino
    run("index", "net.ckpt")
    left = os.stat("net.ckpt.lmdb").st_ino
    run("index", "net.ckpt", "--force")

    assert left == before
    assert os.stat("net.ckpt.lmdb").st_ino != before


def test_index_of_encrypted_files_takes_a_key_from_a_file(run):
    """`--key-file` works for one file and for many; without a key, the encrypted file fails."""
    assert run("index", "secret.ckpt", "--key-file", "key")[0] == 0
    assert run("index", "secret.ckpt", "net.ckpt", "--key-file", "key", "--force")[0] == 0
    code, _, complaints = run("index", "secret.ckpt", "net.ckpt", "--force")

    assert code == 1
    assert "secret.ckpt: the file is encrypted" in complaints


def test_a_folder_stands_for_its_checkpoints(run, folder):
    """`index` of a folder indexes the checkpoints in it and below it, and skips other files."""
    (folder / "runs" / "last").mkdir(parents=True)
    (folder / "runs" / "a.ckpt").write_bytes(checkpoint(LAYERS))
    (folder / "runs" / "last" / "b.ckpt").write_bytes(checkpoint(MIXED))
    (folder / "runs" / "notes.txt").write_text("no checkpoint")
    code, printed, _ = run("index", "runs")

    assert (code, [line.partition(":")[0] for line in printed.splitlines()]) == (0, ["runs/a.ckpt", "runs/last/b.ckpt"])


def test_a_listing_stands_for_the_files_it_names(run, folder):
    """`index` of a listing builds an index for each listed file, and none for the listing."""
    with lazyckpt.load_checkpoint("net.ckpt", index="memory") as opened:
        opened.select("conv1").save("set.safetensors", max_shard_size=600)
    for path in folder.glob("set-*.lmdb"):
        path.unlink()
    parts = sorted(path.name for path in folder.glob("set-*.safetensors"))
    code, printed, _ = run("index", "set.safetensors.index.json")

    assert (code, [line.partition(":")[0] for line in printed.splitlines()]) == (0, parts)
    assert sorted(path.name for path in folder.glob("*.lmdb")) == [f"{part}.lmdb" for part in parts]


def test_digests_are_stored_on_request(run):
    """`--digest` stores digests, and a later run without it keeps them."""
    stored = []
    for options in ([], ["--digest"], []):
        assert run("index", "net.ckpt", *options)[0] == 0
        sidecar = Sidecar("net.ckpt.lmdb")
        stored.append(sidecar.meta.digests)
        sidecar.close()

    assert stored == [False, True, True]
