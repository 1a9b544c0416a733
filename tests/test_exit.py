"""A program that ends with checkpoints in its globals prints nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from checkpoints import counting

import lazyckpt

KEY = bytes(range(16))
OPENED = {
    "plain": "lazyckpt.load_checkpoint('net.ckpt')",
    "positional reads": "{'w': open_local('net.ckpt', 'pread').source}",
    "safetensors": "lazyckpt.load_checkpoint('net.safetensors', format='safetensors')",
    "set": "lazyckpt.load_checkpoint('set.safetensors.index.json', format='safetensors')",
    "AES-GCM": f"lazyckpt.load_checkpoint('gcm.ckpt', dec_key={KEY!r})",
    "AES-CBC": f"lazyckpt.load_checkpoint('cbc.ckpt', dec_key={KEY!r}, dec_mode='AES-CBC')",
    "pickled": "pickle.loads(pickle.dumps(lazyckpt.load_checkpoint('net.ckpt')))",
}
# What a program may leave unfinished, besides a checkpoint.
UNFINISHED = """
def mine():
    with lazyckpt.load_checkpoint("net.ckpt") as inner:
        yield inner["w"]

def stop(*_):
    raise KeyboardInterrupt

from lazyckpt.explore.find import find
left = [mine(), find("*", ["net.ckpt", "gcm.ckpt"]), checkpoint.index.entries(), iter(checkpoint.values())]
left += [iter(checkpoint.stats())]
for one in left:
    next(one)
calls = [lambda: lazyckpt.build_index("net.ckpt", force=True, progress=stop)]
calls += [lambda: lazyckpt.build_indexes(["net.ckpt"], force=True, progress=stop)]
calls += [lambda: lazyckpt.diff("net.ckpt", "gcm.ckpt"), lambda: lazyckpt.verify("net.ckpt", progress=stop)]
calls += [lambda: checkpoint.stats(progress=stop)]
for call in calls:
    try:
        call()
    except BaseException as error:
        left.append(error)
"""
ENDS = {
    "a generator, an interrupted walk": UNFINISHED,
    "sys.exit": "sys.exit(0)",
    "a child": "import os; pid = os.fork(); checkpoint['w'][1]; pid and os.waitpid(pid, 0); sys.exit(0)",
    "a thread": "import threading as t; t.Thread(target=lambda: [value[1] for _ in iter(int, 1)], daemon=True).start()",
    "a cycle": "class A: pass\na = A(); a.a = a; a.checkpoint = checkpoint",
    "after exit": "import atexit; atexit.register(lambda: checkpoint['w'].asnumpy())",
}
# Modules that something outlives are emptied one by one when Python ends, the program's own last: MindSpore does that
# to all of them.
PROGRAM = """
import pickle, sys
import lazyckpt
from lazyckpt.sources.local import open_local

checkpoint = {opened}
value = checkpoint["w"]
names, items = iter(checkpoint), iter(checkpoint.items())
next(names), next(items)
sys.kept = {kept}
"""
KEPT = {
    "nothing": "None",
    "its modules": "[m for name, m in sys.modules.items() if name.startswith('lazyckpt') or name == '__main__']",
    "all modules": "list(sys.modules.values())",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Checkpoints of every kind, in the current folder."""
    monkeypatch.chdir(tmp_path)
    values = {"w": counting((20, 30)), "b": counting((40,)), "text": "x"}
    lazyckpt.save_checkpoint(values, "net.ckpt")
    lazyckpt.save_checkpoint(values, "gcm.ckpt", enc_key=KEY)
    lazyckpt.save_checkpoint(values, "cbc.ckpt", enc_key=KEY, enc_mode="AES-CBC")
    with lazyckpt.load_checkpoint("net.ckpt") as ckpt:
        ckpt.save("net.safetensors", ["w", "b"])
        ckpt.save("set.safetensors", ["w", "b"], max_shard_size=1000)
    return tmp_path


@pytest.mark.parametrize("kept", KEPT.values(), ids=KEPT)
@pytest.mark.parametrize("opened", OPENED.values(), ids=OPENED)
def test_a_program_that_ends_with_an_open_checkpoint_is_silent(folder, opened, kept):
    """Nothing is printed at exit, in any order of destruction of modules and values."""
    program = PROGRAM.format(opened=opened, kept=kept)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_program_may_end_in_any_way(folder, end):
    """Nothing is printed by what is unfinished, by a child, a thread or a cycle, although all modules are kept."""
    program = PROGRAM.format(opened=OPENED["plain"], kept=KEPT["all modules"])
    done = subprocess.run([sys.executable, "-c", f"{program}\n{end}"], capture_output=True, text=True, check=False)

    assert (done.stderr, done.returncode) == ("", 0)


def test_an_exception_is_all_that_a_program_prints(folder):
    """The traceback of the program's own error is followed by nothing."""
    program = PROGRAM.format(opened=OPENED["plain"], kept=KEPT["all modules"]) + UNFINISHED
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nraise ValueError('mine')"], capture_output=True, text=True, check=False
    )

    assert (done.stderr.splitlines()[-1], done.stderr.count("Exception"), done.returncode) == ("ValueError: mine", 0, 1)
