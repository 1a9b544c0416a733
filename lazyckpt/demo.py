"""The demo: inspect a LeNet that MindSpore saved (see tools/make_golden.py)."""

from __future__ import annotations

import contextlib
import importlib.resources
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lazyckpt.display import human_size
from lazyckpt.errors import ArgumentValueError
from lazyckpt.index.build import build_index
from lazyckpt.loading import load_checkpoint
from lazyckpt.runtime.atomic_write import atomic_write, file_errors

FILE: Final = "LeNet5-1_32.ckpt"


def run_demo(say: Callable[[str], object], folder: str | None = None) -> None:
    """Copy the checkpoint to a folder, index and list it, and run examples from MindSpore.

    Args:
        say: prints a line.
        folder: the folder to keep the checkpoint in; None for a temporary folder, which is removed at the end.

    Raises:
        ArgumentValueError: the folder contains a different file with the same name.
        MissingFolder, UnwritableFile: the checkpoint cannot be written to the folder.
    """
    with contextlib.nullcontext(folder) if folder else tempfile.TemporaryDirectory(prefix="lazyckpt-demo-") as where:
        path = os.path.join(where, FILE)
        _copy(path)
        _index(path, say)
        _examples(path, say)
        _what_was_read(path, say)
        if folder is None:
            say("The temporary folder is removed; `lazyckpt demo .` keeps the checkpoint in the current folder.")


def _copy(path: str) -> None:
    content = (importlib.resources.files("lazyckpt") / "demo_data" / FILE).read_bytes()
    if os.path.exists(path):
        if Path(path).read_bytes() != content:
            raise ArgumentValueError(f"a different file exists at {path}: choose another folder")
        return
    with file_errors(os.path.abspath(path)):
        atomic_write(path, lambda private: Path(private).write_bytes(content))


def _index(path: str, say: Callable[[str], object]) -> None:
    start = time.perf_counter()
    index = build_index(path)
    took = time.perf_counter() - start
    size = os.path.getsize(path)
    say(f"A LeNet5 saved by MindSpore 2.10: {path}, {human_size(size)}.")
    say(f"Indexed {len(index)} parameters in {took * 1e3:.1f} ms; the index is {index.path}.")
    say("")
    for entry in index.entries():
        say(f"  {entry.name:<14} {entry.dtype!s:<8} {entry.shape!s:<16} {human_size(entry.nbytes):>9}")
    index.close()


def _examples(path: str, say: Callable[[str], object]) -> None:
    say("")
    say(">>> import lazyckpt")
    say(f'>>> ckpt_file_name = "./{FILE}"')
    say(">>> param_dict = lazyckpt.load_checkpoint(ckpt_file_name,")
    say('...     choice_func=lambda x: x.startswith("conv") and not x.startswith("conv1"))')
    with load_checkpoint(path, choice_func=lambda x: x.startswith("conv") and not x.startswith("conv1")) as chosen:
        say('>>> print(param_dict["conv2.weight"])')
        say(str(chosen["conv2.weight"]))
    say('>>> print(lazyckpt.load_checkpoint(ckpt_file_name, choice_func=lambda x: x.startswith("conv1")))')
    with load_checkpoint(path, choice_func=lambda x: x.startswith("conv1")) as first:
        say(str(first))
        say('>>> lazyckpt.load_checkpoint(ckpt_file_name)["conv1.weight"][0, 0, 0]')
        say(repr(first["conv1.weight"][0, 0, 0]))


def _what_was_read(path: str, say: Callable[[str], object]) -> None:
    with load_checkpoint(path) as checkpoint:
        values = sum(entry.stored for entry in checkpoint.index.entries())
        row = checkpoint["conv1.weight"][0, 0, 0].nbytes
    say("")
    say(f"Read: {row} bytes of one row. Not read: {human_size(values - row)} of values. The file is memory-mapped,")
    say("its headers were scanned once for the index, and nothing was copied.")
