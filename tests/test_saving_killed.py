"""If a writer dies, the old or the new file is whole, and the next writer removes its leftovers."""

from __future__ import annotations

import io
import itertools
import os
import random
import signal
import time

import numpy as np
import pytest
from encryption import KEY
from forking import ended, forked

import lazyckpt
from lazyckpt.writing import files

KILLS = 40  # for each kind
SHAPES = {"layer.weight": (1000, 700), "layer.bias": (700,), "head.weight": (300, 1000), "step": ()}


def values_of(generation):
    """Values that all identify their file."""
    return {name: np.full(shape, generation, "float32") for name, shape in SHAPES.items()}


def saves(**options):
    """A writer that saves arrays."""
    return lambda path, generation: lazyckpt.save_checkpoint(values_of(generation), path, **options)


def converts(**options):
    """A writer that copies another checkpoint over the existing file, with other names and dtypes."""

    def write(path, generation):
        source = path.with_name("source")
        with lazyckpt.load_checkpoint(source / f"{generation}.ckpt") as ckpt:
            ckpt.save(path, rename=lambda name: name.removeprefix("old."), dtype="float32", **options)

    return write


KINDS = {
    "saving": (saves(), "ckpt", {}),
    "saving encrypted": (saves(enc_key=KEY), "ckpt", {"dec_key": KEY}),
    "saving safetensors": (saves(format="safetensors", crc_check=True), "safetensors", {}),
    "converting": (converts(), "ckpt", {}),
    "converting to safetensors": (converts(), "safetensors", {}),
}


@pytest.fixture(params=KINDS)
def kind(request, tmp_path):
    """A writer, its path, and the arguments to load the file."""
    write, form, options = KINDS[request.param]
    folder = tmp_path / "written"
    folder.mkdir()
    return write, folder / f"net.{form}", {"format": form, **options}


def prepared(path, generations):
    """The files to convert: one for each generation, in a separate folder."""
    source = path.with_name("source")
    source.mkdir()
    for generation in generations:
        values = {f"old.{name}": value.astype("float64") for name, value in values_of(generation).items()}
        lazyckpt.save_checkpoint(values, source / f"{generation}.ckpt")


def generation_of(path, options):
    """The generation of the file; asserts that all its values belong to it."""
    with lazyckpt.load_checkpoint(path, **options) as ckpt:
        found = {name: ckpt[name].asnumpy() for name in ckpt}
        assert {name: value.shape for name, value in found.items()} == SHAPES
        numbers = {float(number) for value in found.values() for number in (value.min(), value.max())}
    assert len(numbers) == 1
    return int(numbers.pop())


def left_in(path):
    """The folder's contents, without the files to convert."""
    return sorted(set(os.listdir(path.parent)) - {"source"})


def test_a_writer_that_is_killed_leaves_the_old_file_or_the_new_one(kind):
    """After kills at random moments over the same file, the next surviving writer leaves everything in order."""
    write, path, options = kind
    chance = random.Random(7)
    prepared(path, range(3))
    started = time.perf_counter()
    write(path, 0)
    took = time.perf_counter() - started
    there, outcomes = 0, []
    for number in range(1, KILLS + 1):
        generation = number % 3
        child = forked(lambda generation=generation: write(path, generation))
        time.sleep(chance.uniform(0, 1.5 * took))
        os.kill(child, signal.SIGKILL)
        ended(child)
        now = generation_of(path, options)
        outcomes.append(now in (there, generation))
        there = now
    write(path, 2)

    assert outcomes == [True] * KILLS
    assert generation_of(path, options) == 2
    assert left_in(path) == [path.name, f"{path.name}.lmdb"]


class DyingFile(io.BufferedRandom):
    """A file with a possible death at every call."""

    def __init__(self, step, name, size):
        super().__init__(io.FileIO(name, "r+"), size)
        self._step = step

    def write(self, data):
        """See `io.BufferedRandom.write`."""
        self._step("write")
        return super().write(data)

    def writelines(self, lines):
        """See `io.BufferedRandom.writelines`."""
        for data in lines:
            self.write(data)

    def flush(self):
        """See `io.BufferedRandom.flush`."""
        self._step("flush")
        super().flush()


CALLS = ("fsync", "fchmod", "chmod", "replace", "unlink")


def stepping(patched, step):
    """Call `step` before each call that changes the disk."""
    for name in CALLS:
        real = getattr(os, name)
        patched.setattr(os, name, lambda *given, name=name, real=real, **at: (step(name), real(*given, **at))[1])
    patched.setattr(files, "open", lambda name, mode, buffering: DyingFile(step, name, buffering), raising=False)


def test_there_is_no_call_at_which_dying_does_harm(kind, monkeypatch):
    """A writer that dies at any write, flush, sync, chmod or rename leaves the old file whole, or the new one."""
    write, path, options = kind
    prepared(path, range(2))
    write(path, 0)
    steps = []
    with monkeypatch.context() as patched:
        stepping(patched, steps.append)
        write(path, 0)

    def dying(last):
        def act():
            left = itertools.count()
            stepping(monkeypatch, lambda name: os._exit(7) if next(left) == last else None)
            write(path, 1)

        return act

    codes, found = [], []
    for last in range(len(steps) + 1):
        codes.append(ended(forked(dying(last))))
        found.append(generation_of(path, options))
        write(path, 0)
    renamed = steps.index("replace") + 1

    assert codes == [7] * len(steps) + [0]
    assert found == [0] * renamed + [1] * (len(steps) + 1 - renamed)
    assert {"write", "flush", "fsync", "chmod"} <= set(steps[:renamed])
    assert [name for name in steps if name == "replace"] == ["replace"] * 2
    assert left_in(path) == [path.name, f"{path.name}.lmdb"]


def test_a_writer_that_died_leaves_no_more_than_its_private_files(tmp_path):
    """However many writers die, one private file each is left for checkpoint and index: the next writer reuses it."""
    path = tmp_path / "net.ckpt"

    def die(done, total):
        os._exit(7)

    def write(progress=None):
        with lazyckpt.load_checkpoint(tmp_path / "source" / "1.ckpt") as ckpt:
            ckpt.save(path, progress=progress)

    prepared(path, [1])
    for _ in range(5):
        assert ended(forked(lambda: write(die))) == 7
    left = left_in(path)
    write()

    assert left == [".net.ckpt.lmdb.tmp", ".net.ckpt.tmp"]
    assert left_in(path) == ["net.ckpt", "net.ckpt.lmdb"]


def test_a_set_that_was_killed_half_way_has_no_list_and_can_be_saved_again(tmp_path):
    """Finished parts are whole; repeating the save replaces them and leaves no private files."""
    path = tmp_path / "net.ckpt"

    def die(done, total):
        if done == total:
            os._exit(7)

    def write(progress=None):
        with lazyckpt.load_checkpoint(tmp_path / "source" / "1.ckpt") as ckpt:
            return ckpt.save(path, max_shard_size=2_000_000, progress=progress)

    prepared(path, [1])
    code = ended(forked(lambda: write(die)))
    parts = [name for name in left_in(path) if name.endswith(".ckpt")]
    names = [name for part in parts for name in lazyckpt.load_checkpoint(path.with_name(part))]
    written = [os.path.basename(each) for each in write()]

    assert (code, parts) == (7, [f"net-0000{number}-of-00004.ckpt" for number in (1, 2, 3)])
    assert names == [f"old.{name}" for name in SHAPES][: len(names)]
    assert [name for name in left_in(path) if not name.endswith(".lmdb")] == sorted(written)
    assert len(lazyckpt.load_checkpoint(f"{path}.index.json")) == len(SHAPES)
