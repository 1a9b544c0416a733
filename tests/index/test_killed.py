"""If a build of an index dies or fails, a sound index or none is left; the next build removes leftovers."""

from __future__ import annotations

import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkpoints import checkpoint, counting
from encryption import KEY, encrypted
from forking import ended, forked

import lazyckpt

TOOL = Path(__file__).parents[2] / "tools" / "crashes.py"
VALUES = {f"layer{place}.weight": counting((4, 3)) + place for place in range(3000)}
FORMS = {"plain": {}, "AES-GCM": {"dec_key": KEY}}
FILE = checkpoint(VALUES)
CALLS = ("fsync", "fchmod", "chmod", "replace", "unlink", "pread")


@pytest.fixture(params=FORMS)
def form(request):
    """The form of a file: plain, or encrypted with a sealed index."""
    return request.param


@pytest.fixture
def file(tmp_path, form):
    """A checkpoint in its own folder, without an index."""
    path = tmp_path / "files" / "net.ckpt"
    path.parent.mkdir()
    path.write_bytes(FILE if form == "plain" else encrypted(FILE, block=50_000))
    return path


def build(file, form):
    """Build the index."""
    lazyckpt.build_index(file, force=True, **FORMS[form]).close()


def is_sound(file, form):
    """Whether the checkpoint opens with all its names and some of its values."""
    with lazyckpt.load_checkpoint(str(file), **FORMS[form]) as ckpt:
        some = ckpt.load(list(VALUES)[::500])
        return list(ckpt) == list(VALUES) and all((value == VALUES[name]).all() for name, value in some.items())


def left(file):
    """The files beside the checkpoint."""
    return sorted(set(os.listdir(file.parent)) - {file.name})


def test_a_builder_that_is_killed_at_any_moment_does_no_harm(file, form):
    """After each of thirty kills the checkpoint opens, and the next builder leaves one index and nothing else."""
    chance = random.Random(11)
    started = time.perf_counter()
    build(file, form)
    took = time.perf_counter() - started
    for _ in range(30):
        child = forked(lambda: build(file, form))
        time.sleep(chance.uniform(0, 1.5 * took))
        os.kill(child, signal.SIGKILL)
        ended(child)
        assert is_sound(file, form)
    build(file, form)

    assert left(file) == ["net.ckpt.lmdb"]


def stepping(patched, step):
    """Call `step` before each of these system calls."""
    for name in CALLS:
        real = getattr(os, name)
        patched.setattr(os, name, lambda *given, name=name, real=real, **more: (step(name), real(*given, **more))[1])


def steps_of_a_build(file, form, monkeypatch):
    """The calls of one build beside a sound index, in order."""
    build(file, form)
    steps = []
    with monkeypatch.context() as patched:
        stepping(patched, steps.append)
        build(file, form)
    return steps


def test_there_is_no_call_at_which_dying_does_harm(file, form, monkeypatch):
    """The builder dies before each system call that Python makes, in turn."""
    steps = steps_of_a_build(file, form, monkeypatch)

    def dying(last):
        def act():
            calls = itertools.count()
            stepping(monkeypatch, lambda name: os._exit(7) if next(calls) == last else None)
            build(file, form)

        return act

    codes, sound = [], []
    while 0 not in codes:
        codes.append(ended(forked(dying(len(codes)))))
        sound.append(is_sound(file, form))
    build(file, form)

    assert codes == [7] * (len(steps) + 1) + [0]  # one more: each removes what the one before it left
    assert sound == [True] * len(codes)
    assert set(steps) == set(CALLS) - {"unlink"}  # that is for what failed
    assert left(file) == ["net.ckpt.lmdb"]


def test_there_is_no_call_whose_failure_does_harm(file, form, monkeypatch):
    """If the disk fails at any call, the index is elsewhere or in memory, and the old one is whole."""
    steps = steps_of_a_build(file, form, monkeypatch)
    writing = [number for number, name in enumerate(steps) if name != "pread"]
    sound = []
    for number in writing:
        calls = itertools.count()

        def fail(name, number=number, calls=calls):
            if next(calls) == number:
                raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            stepping(patched, fail)
            build(file, form)
        sound.append(is_sound(file, form))
        assert left(file) in (["net.ckpt.lmdb"], [".net.ckpt.lmdb.tmp", "net.ckpt.lmdb"])  # where removing it failed
    build(file, form)

    assert sound == [True] * len(writing)
    assert left(file) == ["net.ckpt.lmdb"]


@pytest.mark.parametrize("most", [0, 4096, 100_000, 300_000])
def test_a_disk_without_room_gives_an_index_in_memory(most, file, form):
    """Wherever the disk fills up, the checkpoint opens, no partial index is left, and a later open keeps one."""

    def with_little_room():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        assert is_sound(file, form)

    assert ended(forked(with_little_room)) == 0
    assert left(file) == []
    assert is_sound(file, form)
    assert left(file) == ["net.ckpt.lmdb"]


def test_a_folder_that_may_not_be_written_is_left_alone(file, form, cache_folder, monkeypatch):
    """The index goes to the cache folder; if that is not writable either, it stays in memory."""

    def refuse(path, flags, *mode, dir_fd=None, real=os.open):
        place = "" if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
        whole = os.path.join(place, os.fspath(path))
        if whole.startswith((str(file.parent / "."), str(cache_folder))) and flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied", path)
        return real(path, flags, *mode, dir_fd=dir_fd)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        assert is_sound(file, form)
    assert left(file) == []


def can_trace():
    """Whether strace exists and the system permits it."""
    return shutil.which("strace") and not subprocess.run(["strace", "-o", "/dev/null", "true"], check=False).returncode


@pytest.mark.skipif(not can_trace(), reason="needs strace")
def test_there_is_no_call_of_the_kernel_at_which_dying_does_harm():
    """Each system call of LMDB's own writes is included."""
    command = [sys.executable, str(TOOL), "--task", "index", "--fault", "KILL"]
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)

    assert (ended.returncode, ended.stdout.splitlines()[-1][-8:], ended.stderr) == (0, " 0 wrong", "")
