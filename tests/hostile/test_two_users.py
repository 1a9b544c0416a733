"""Two users share a folder: what one of them does to temporary names harms no file of the other."""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import signal
import stat
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import lazyckpt
from lazyckpt.errors import LazyCkptError, UnwritableFile
from lazyckpt.runtime.atomic_write import temporary

ALICE, MALLORY, TEAM = 61_001, 61_002, 61_003  # ids that no account needs to have
TOGETHER = 50  # files that are written at the same time
SWAPS = int(os.environ.get("LAZYCKPT_SWAPS", "500"))
COUNT = struct.Struct("<Q")
VALUES = {"w": np.arange(6, dtype="float32").reshape(2, 3)}

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="names are held open by descriptors on Linux"),
    pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can act as two users"),
]


@pytest.fixture(scope="module", autouse=True)
def _imported(tmp_path_factory):
    """Import all that is used, because the two users may be unable to read Python's own files."""
    path = tmp_path_factory.mktemp("imported") / "net.ckpt"
    save(path)()
    lazyckpt.build_index(path, force=True).close()
    with contextlib.suppress(LazyCkptError):
        lazyckpt.save_checkpoint(VALUES, str(path.parent / "none" / "net.ckpt"))
    "net".encode("ascii")


@pytest.fixture
def public():
    """A folder that both users may enter. Those of pytest become private again whenever another pytest starts."""
    with tempfile.TemporaryDirectory(prefix="lazyckpt-users-") as place:
        os.chmod(place, 0o755)
        yield Path(place)


@pytest.fixture(params=[0o2770, 0o777], ids=oct)
def shared(request, public):
    """A folder without the sticky bit, in which both users may write."""
    folder = public / "shared"
    folder.mkdir()
    os.chown(folder, 0, TEAM)
    folder.chmod(request.param)
    return folder


def start_as(user, act):
    """Fork a process that runs as a user, with umask 022; its exit code is 0 if `act` returns."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setgroups([TEAM])
        os.setgid(user)
        os.setuid(user)
        os.umask(0o022)
        act()
        code = 0
    except BaseException as error:  # noqa: BLE001 (a forked child must not return into pytest)
        print(f"{type(error).__name__}: {error}", file=sys.__stderr__)
    finally:
        os._exit(code)


def run_as(user, act):
    """Run `act` as a user, and return the exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(start_as(user, act), 0)[1])


def private_files(public, owner, count=2):
    """Files of a user in a folder that nobody else may enter."""
    home = public / "home"
    home.mkdir()
    files = [home / f"precious{number}" for number in range(count)]
    for file in files:
        file.write_bytes(b"precious")
        os.chown(file, owner, owner)
        file.chmod(0o600)
    os.chown(home, owner, owner)
    home.chmod(0o700)
    return files


def save(path):
    """Save as the current user, and read the file again."""

    def act():
        lazyckpt.save_checkpoint(VALUES, str(path))
        with lazyckpt.load_checkpoint(str(path), index="memory") as checkpoint:
            assert np.array_equal(checkpoint["w"].asnumpy(), VALUES["w"])

    return act


LEFTOVERS = {
    "file": lambda path: path.write_bytes(b"theirs"),
    "open file": lambda path: (path.write_bytes(b"theirs"), path.chmod(0o666)),
    "folder": lambda path: path.mkdir(),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "pipe": lambda path: os.mkfifo(path, 0o666),
}


@pytest.mark.parametrize("what", LEFTOVERS)
def test_a_leftover_of_another_user_stops_nobody(what, shared):
    """Whatever another user left at every temporary name: a save and its index succeed, and use none of it."""
    numbers = ("", *(f".{number}" for number in range(1, 9)))
    names = [f".net.ckpt{ending}{number}.tmp" for ending in ("", ".lmdb") for number in numbers]

    assert run_as(MALLORY, lambda: [LEFTOVERS[what](shared / name) for name in names]) == 0
    assert run_as(ALICE, save(shared / "net.ckpt")) == 0
    status = (shared / "net.ckpt").lstat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (ALICE, 0o400)
    assert (shared / "net.ckpt.lmdb").lstat().st_uid == ALICE
    assert set(os.listdir(shared)) == {*names, "net.ckpt", "net.ckpt.lmdb"}
    assert {(shared / name).lstat().st_uid for name in names} == {MALLORY}


def test_a_link_that_another_user_left_is_not_followed(shared, public):
    """A link at a temporary name, to a file of the one who saves, changes neither that file nor its mode."""
    victim, _ = private_files(public, ALICE)
    names = (".net.ckpt.tmp", ".net.ckpt.lmdb.tmp")

    assert run_as(MALLORY, lambda: [(shared / name).symlink_to(victim) for name in names]) == 0
    assert run_as(ALICE, save(shared / "net.ckpt")) == 0
    assert (victim.read_bytes(), stat.S_IMODE(victim.stat().st_mode)) == (b"precious", 0o600)


def swapped(folder, victim):
    """Replace the temporary files in a folder by links; return how many there were."""
    names = [name for name in os.listdir(folder) if name.startswith(".") and name.endswith(".tmp")]
    number = 0
    for name in names:
        with contextlib.suppress(OSError):
            if os.path.islink(folder / name):
                os.unlink(folder / name)
                continue
            os.rename(folder / name, folder / "taken")
            os.symlink(victim, folder / name)
            number += 1
    return number


def untouched(files):
    """The bytes, times and folder of files that must not change."""
    status = [
        (file.read_bytes(), file.stat().st_mtime_ns, file.stat().st_ctime_ns, file.stat().st_mode) for file in files
    ]
    return status, sorted(os.listdir(files[0].parent))


def test_swapped_temporary_names_lead_nowhere(shared, public):
    """Each temporary file is swapped while it is written; no write, mode or rename reaches a file elsewhere."""
    files = private_files(public, ALICE)
    before = untouched(files)
    asked, answered = os.pipe(), os.pipe()

    def swap():
        for _ in range(SWAPS // TOGETHER):
            os.read(asked[0], 1)
            os.write(answered[1], COUNT.pack(swapped(shared, files[0])))

    def write():
        for _ in range(SWAPS // TOGETHER):
            with contextlib.ExitStack() as stack:
                made = [stack.enter_context(temporary(str(shared / f"{n}.csv"))) for n in range(TOGETHER)]
                os.write(asked[1], b"?")
                assert COUNT.unpack(os.read(answered[0], COUNT.size)) == (TOGETHER,)
                for file in made:
                    Path(file.path).write_bytes(b"table")
                    with pytest.raises(UnwritableFile, match="temporary file"):
                        file.commit(0o444)

    attacker = start_as(MALLORY, swap)
    try:
        assert run_as(ALICE, write) == 0
    finally:
        os.kill(attacker, signal.SIGKILL)
        os.waitpid(attacker, 0)

    assert untouched(files) == before
    assert not list(shared.glob("*.csv"))


def test_swaps_at_any_moment_lead_nowhere(shared, public):
    """While one user saves and builds indexes, another one swaps what temporary files there are, at any moment."""
    files = private_files(public, ALICE)
    before = untouched(files)
    path = shared / "net.ckpt"
    count = mmap.mmap(-1, COUNT.size)

    def swap():
        turn = 0
        while True:
            turn += swapped(shared, files[0])
            COUNT.pack_into(count, 0, turn)

    def write():
        logging.disable()
        while COUNT.unpack_from(count)[0] < SWAPS // 50:
            with contextlib.suppress(LazyCkptError, OSError):
                lazyckpt.save_checkpoint(VALUES, str(path))
            with contextlib.suppress(LazyCkptError, OSError):
                lazyckpt.build_index(path, force=True).close()

    attacker = start_as(MALLORY, swap)
    try:
        assert run_as(ALICE, write) == 0
    finally:
        os.kill(attacker, signal.SIGKILL)
        os.waitpid(attacker, 0)

    assert COUNT.unpack_from(count)[0] >= SWAPS // 50
    assert untouched(files) == before


@pytest.mark.parametrize("name", ["net.ckpt", "runs/net.ckpt"])
def test_a_target_behind_a_link_of_another_user_is_refused(name, shared, public):
    """A link that another user put at the target, or at its folder, is not followed, and the error names it."""
    victim, _ = private_files(public, ALICE)
    first = shared / name.partition("/")[0]
    target = victim if first == shared / name else victim.parent

    def refused():
        with pytest.raises(UnwritableFile, match=f"{first.name} is a link of another user"):
            lazyckpt.save_checkpoint(VALUES, str(shared / name))

    assert run_as(MALLORY, lambda: first.symlink_to(target)) == 0
    assert run_as(ALICE, refused) == 0
    assert victim.read_bytes() == b"precious"
    assert sorted(os.listdir(victim.parent)) == ["precious0", "precious1"]
