"""Soak test: threads and processes that open, read, save, index, damage, fork and die.

    python tools/soak.py                 20 minutes
    python tools/soak.py --minutes 1 --seed 7

Processes (forked, spawned, from a fork server) work on the same few files: plain, encrypted, safetensors. Each process
has several threads, which run random actions one after another. All values of a file are the same number, its
generation. Only one saver works on a file at a time, and a shared table holds the generations that a reader may find.
The contract: an open checkpoint keeps one generation, which was current when it was opened; only deliberate damage
causes errors, and they are of the expected kind; nothing hangs; at its end, a process has no more descriptors and
threads than at its start; and in the end only files and indexes are left. The tool prints one line with the number of
actions, and the exit code is 1 if anything violated the contract.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import fcntl
import gc
import itertools
import mmap
import multiprocessing
import os
import random
import signal
import struct
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

# Newer Pythons warn about a fork in a process with threads. Here the fork is intended.
warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import lazyckpt  # noqa: E402 (from this tree, not from an installed version)
from lazyckpt.errors import ClosedCheckpoint, StaleIndex  # noqa: E402

KEY = bytes(range(16))
SHAPES = {f"layer{place}.weight": (8, 1 + place % 5) for place in range(150)} | {"large": (300, 300), "step": ()}
NAMES = list(SHAPES)
STARTS = ("fork", "spawn", "forkserver")
LONGEST = 60.0  # seconds for one action
_ROW = struct.Struct("<QQ")  # the newest generation begun, and the newest finished


class File(NamedTuple):
    """A file that the threads work on.

    Attributes:
        name: the name of the file.
        saving: options for `save_checkpoint`.
        loading: options for `load_checkpoint`.
    """

    name: str
    saving: dict[str, object]
    loading: dict[str, object]


FILES = (
    File("plain.ckpt", {}, {}),
    File("other.ckpt", {"crc_check": True}, {"crc_check": True}),
    File("gcm.ckpt", {"enc_key": KEY}, {"dec_key": KEY}),
    File("cbc.ckpt", {"enc_key": KEY, "enc_mode": "AES-CBC"}, {"dec_key": KEY, "dec_mode": "AES-CBC"}),
    File("net.safetensors", {"format": "safetensors"}, {"format": "safetensors"}),
)


class Violation(Exception):
    """The contract was violated."""


class House:
    """The files and the shared table of their generations; one object for each process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with open(folder / "generations", "r+b") as table:
            self._table = mmap.mmap(table.fileno(), len(FILES) * _ROW.size)

    def path(self, file: File) -> Path:
        """The path of a file."""
        return self.folder / file.name

    def generations(self, file: File) -> tuple[int, int]:
        """The newest generation begun, and the newest finished."""
        return _ROW.unpack_from(self._table, FILES.index(file) * _ROW.size)

    def save(self, file: File, how: Callable[[int], object]) -> None:
        """Save the next generation, under an exclusive lock on the file."""
        with open(self.folder / f"{file.name}.turn", "ab") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            begun, finished = self.generations(file)
            place = FILES.index(file) * _ROW.size
            _ROW.pack_into(self._table, place, begun + 1, finished)
            how(begun + 1)
            _ROW.pack_into(self._table, place, begun + 1, begun + 1)

    def close(self) -> None:
        """Close the table."""
        self._table.close()

    @contextlib.contextmanager
    def opened(self, file: File) -> Iterator[tuple[lazyckpt.Checkpoint, int]]:
        """Open a checkpoint, and check that its generation is a current one."""
        _, oldest = self.generations(file)
        with lazyckpt.load_checkpoint(str(self.path(file)), **file.loading) as checkpoint:
            newest, _ = self.generations(file)
            generation = int(checkpoint["step"].asnumpy())
            if not oldest <= generation <= newest:
                raise Violation(f"{file.name} is of generation {generation}, not {oldest} to {newest}")
            yield checkpoint, generation


def values(generation: int) -> dict[str, np.ndarray]:
    """The values of a generation."""
    return {name: np.full(shape, generation, "float32") for name, shape in SHAPES.items()}


def check(name: str, value: object, generation: int) -> None:
    """Check that a whole value is of a generation."""
    array = np.asarray(value)
    if array.shape != SHAPES[name] or not np.all(array == generation):
        raise Violation(f"{name!r} is not of generation {generation}: {array.shape}, {np.unique(array)[:5]}")


# The actions of a thread.


def read_some(house: House, file: File, pick: random.Random) -> None:
    """Read some values as views, copies and slices."""
    with house.opened(file) as (checkpoint, generation):
        for name in pick.sample(NAMES[:-1], 10):
            check(name, checkpoint[name].asnumpy(copy=pick.random() < 0.5), generation)
        if not np.all(checkpoint["large"][pick.randrange(300), 5:9] == generation):
            raise Violation("a slice of another generation")


def read_all(house: House, file: File, _: random.Random) -> None:
    """Read all values at once, on the threads of lazyckpt."""
    with house.opened(file) as (checkpoint, generation):
        for name, value in checkpoint.load().items():
            check(name, value, generation)


def look(house: House, file: File, _: random.Random) -> None:
    """Check the names, and print a tree."""
    with house.opened(file) as (checkpoint, _generation):
        if sorted(checkpoint) != sorted(NAMES) or len(checkpoint.select("layer1")) != 61:
            raise Violation(f"{file.name} has the wrong names")
        str(checkpoint.tree(depth=2))


def read_long(house: House, file: File, pick: random.Random) -> None:
    """Keep reading from one open checkpoint, while its file may be replaced."""
    with house.opened(file) as (checkpoint, generation):
        for _ in range(20):
            name = pick.choice(NAMES)
            check(name, checkpoint.load([name])[name], generation)
            time.sleep(0.01)


def read_together(house: House, file: File, pick: random.Random) -> None:
    """Read one checkpoint on several asyncio threads, one of which may close it meanwhile."""

    def read(seed: int) -> None:
        chance = random.Random(seed)
        try:
            for name in chance.sample(NAMES, 20):
                check(name, checkpoint.load([name])[name], generation)
        except ClosedCheckpoint:
            if not closes:
                raise
        if closes and chance.random() < 0.3:
            checkpoint.close()

    async def all_of_them() -> None:
        await asyncio.gather(*(asyncio.to_thread(read, pick.random()) for _ in range(4)))

    closes = pick.random() < 0.5
    with house.opened(file) as (checkpoint, generation):
        asyncio.run(all_of_them())


def read_in_child(house: House, file: File, pick: random.Random) -> None:
    """Fork, and read in the child: from the open checkpoint, and from the file opened again."""

    def read() -> None:
        for name in pick.sample(NAMES, 5):
            check(name, checkpoint.load([name])[name], generation)
        read_some(house, file, pick)

    with house.opened(file) as (checkpoint, generation):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                faulthandler.dump_traceback_later(LONGEST - 5)
                signal.alarm(int(LONGEST))
                read()
                code = 0
            except StaleIndex:
                code = 0
            finally:
                os._exit(code)
        check("large", checkpoint.load(["large"])["large"], generation)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            raise Violation(f"a forked child ended with {code}")


def save(house: House, file: File, _: random.Random) -> None:
    """Save the next generation."""
    path = str(house.path(file))
    house.save(file, lambda generation: lazyckpt.save_checkpoint(values(generation), path, **file.saving))


def copy(house: House, file: File, _: random.Random) -> None:
    """Save a checkpoint under another name, and check the copy."""
    target = house.folder / f"copy-{os.getpid()}-{threading.get_ident()}.ckpt"
    with house.opened(file) as (checkpoint, generation):
        checkpoint.save(target)
    with lazyckpt.load_checkpoint(str(target)) as written:
        for name, value in written.load().items():
            check(name, value, generation)
    target.unlink()
    target.with_name(target.name + ".lmdb").unlink()


def rebuild(house: House, file: File, pick: random.Random) -> None:
    """Rebuild the index, even if it is fresh."""
    key = file.loading.get("dec_key")
    mode = file.loading.get("dec_mode", "AES-GCM")
    digest = "blake2b" if pick.random() < 0.3 else None
    lazyckpt.build_index(house.path(file), key, mode, force=True, digest=digest).close()


def remove_index(house: House, file: File, _: random.Random) -> None:
    """Remove the index while others may use it."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{house.path(file)}.lmdb")


def damage_index(house: House, file: File, pick: random.Random) -> None:
    """Damage the index, possibly truncate it, and replace it or change it in place."""
    path = Path(f"{house.path(file)}.lmdb")
    with contextlib.suppress(FileNotFoundError):
        data = bytearray(path.read_bytes())
        if not data:
            return
        for _ in range(pick.choice((1, 5))):
            data[pick.randrange(len(data))] ^= 1 << pick.randrange(8)
        if pick.random() < 0.3:
            del data[pick.randrange(len(data)) :]
        if pick.random() < 0.5:
            os.chmod(path, 0o600)
            with open(path, "r+b") as opened:
                opened.write(data)
                opened.truncate(len(data))
        else:
            private = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
            private.write_bytes(data)
            os.replace(private, path)


READING = (read_some, read_some, read_all, look, read_long, read_together, read_in_child, copy)
WRITING = (save, save, rebuild, remove_index, damage_index)


def thread(house: House, seed: str, until: float, told: Counter[str], wrong: list[str]) -> None:
    """Run random actions until the time is over."""
    pick = random.Random(seed)
    while time.monotonic() < until and len(wrong) < 5:
        act, file = pick.choice(READING if pick.random() < 0.75 else WRITING), pick.choice(FILES)
        start = time.monotonic()
        try:
            act(house, file, pick)
            told[act.__name__] += 1
        except StaleIndex:  # the index was damaged on purpose
            told["refused"] += 1
        except Exception:  # noqa: BLE001 (any other error violates the contract)
            wrong.append(f"{act.__name__} {file.name}: {traceback.format_exc()}")
        if time.monotonic() - start > LONGEST:
            wrong.append(f"{act.__name__} {file.name} took {time.monotonic() - start:.0f} s")


def process(folder: str, seed: str, seconds: float, threads: int, answers: object) -> None:
    """Run some threads, and check for descriptors and threads that they leave."""
    house = House(Path(folder))
    told: Counter[str] = Counter()
    wrong: list[str] = []
    # Import every module and open one-time resources now, so that children forked beside threads need not import.
    for act, file in itertools.product((read_some, read_all, look, read_together, copy), FILES):
        with contextlib.suppress(StaleIndex):
            act(house, file, random.Random(0))
    gc.collect()
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    until = time.monotonic() + seconds
    started = [
        threading.Thread(target=thread, args=(house, f"{seed}-{number}", until, told, wrong))
        for number in range(threads)
    ]
    for one in started:
        one.start()
    for one in started:
        one.join(seconds + 2 * LONGEST)
        if one.is_alive():
            wrong.append("a thread hangs")
    gc.collect()
    after = len(os.listdir("/proc/self/fd")), threading.active_count()
    if after[0] > before[0] or after[1] > before[1]:
        wrong.append(f"descriptors and threads: {before} before, {after} after")
    answers.put((os.getpid(), dict(told), wrong))


def soak(seconds: float, processes: int, threads: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Run rounds of processes, and kill some of them; returns the action counts and violations."""
    (folder / "generations").write_bytes(bytes(len(FILES) * _ROW.size))
    house = House(folder)
    pick, told, wrong = random.Random(seed), Counter[str](), list[str]()
    for file in FILES:
        save(house, file, pick)
    end = time.monotonic() + seconds
    for number in range(10**6):
        left = end - time.monotonic()
        if left <= 0 or wrong:
            break
        told += _round(folder, f"{seed}-{number}", min(left, 10.0), processes, threads, wrong)
    known = {f"{file.name}{ending}" for file in FILES for ending in ("", ".lmdb", ".turn")} | {"generations"}
    for file in FILES:
        with contextlib.suppress(StaleIndex):
            read_all(house, file, pick)
        save(house, file, pick)
    litter = {name for name in os.listdir(folder) if not name.startswith(("copy-", ".copy-"))} - known
    if litter - {
        name for name in litter if ".lmdb." in name and not name.startswith(".")
    }:  # from a killed `damage_index`
        wrong.append(f"left behind: {sorted(litter)}")
    return told, wrong


def _round(folder: Path, seed: str, seconds: float, processes: int, threads: int, wrong: list[str]) -> Counter[str]:
    pick, told = random.Random(seed), Counter[str]()
    answers = multiprocessing.get_context("spawn").SimpleQueue()
    running = []
    for number in range(processes):
        context = multiprocessing.get_context(STARTS[number % len(STARTS)])
        arguments = (str(folder), f"{seed}-{number}", seconds, threads, answers)
        running.append(context.Process(target=process, args=arguments))
        running[-1].start()
    killed = pick.sample(running, 1) if pick.random() < 0.5 and processes > 1 else []
    for one in killed:
        one.join(seconds * pick.random())
        one.kill()
        told["killed"] += 1
    limit = time.monotonic() + seconds + 3 * LONGEST
    for one in running:
        one.join(max(0.0, limit - time.monotonic()))
        if one.is_alive():
            wrong.append(f"process {one.pid} hangs")
            one.kill()
            one.join()
        elif one.exitcode and one not in killed:
            wrong.append(f"a process ended with {one.exitcode}")
    while not answers.empty():
        _, done, faults = answers.get()
        told += Counter(done)
        wrong += faults
    return told


def main(arguments: list[str] | None = None) -> int:
    """Run the test, print the counts and violations, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20, help="the duration (default 20)")
    parser.add_argument("--processes", type=int, default=6, help="the number of processes at a time (default 6)")
    parser.add_argument("--threads", type=int, default=4, help="the number of threads in each process (default 4)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the actions (default 0)")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="lazyckpt-soak-") as place:
        os.environ["LAZYCKPT_CACHE"] = str(Path(place, "cache"))
        folder = Path(place, "files")
        folder.mkdir()
        start = time.monotonic()
        told, wrong = soak(asked.minutes * 60, asked.processes, asked.threads, asked.seed, folder)
        minutes = (time.monotonic() - start) / 60
    done = ", ".join(f"{count:,} {name}" for name, count in sorted(told.items()))
    print(f"{minutes:.1f} minutes, {asked.processes} processes of {asked.threads} threads: {done}; {len(wrong)} wrong")
    for text in wrong:
        print(f"  {text}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
