"""Rows about writing: conversions beside `cp` of the same file. Both sides bring what they wrote to the disk."""

from __future__ import annotations

from typing import Any

from benchmarks.bars import MIB
from benchmarks.checkpoints import Made
from benchmarks.figures import Bar, Row
from benchmarks.processes import Side
from benchmarks.run import Run, limit
from benchmarks.units import memory

# At least 0.7 times as fast as cp, with the largest value and 128 MiB in memory.
_BARS = (Bar("limit", 1 / 0.7), Bar("extra", (16 + 128) * MIB))


def to_safetensors(run: Run) -> Row:
    """From MindSpore's format to safetensors."""
    return _beside_cp(run, run.files.whole, "plain -> safetensors", "safetensors", bars=_BARS)


def to_aligned(run: Run) -> Row:
    """The same format, contents aligned."""
    return _beside_cp(run, run.files.whole, "plain -> aligned .ckpt", "ckpt", bars=_BARS)


def encrypting(run: Run) -> Row:
    """Plain to AES-GCM."""
    return _beside_cp(run, run.files.large, "plain -> AES-GCM", "ckpt", enc_key=run.files.key)


def decrypting(run: Run) -> Row:
    """AES-GCM to safetensors."""
    source = Made(run.files.encrypted("AES-GCM"), run.files.large.values)
    return _beside_cp(run, source, "AES-GCM -> safetensors", "safetensors", dec_key=run.files.key)


def casting(run: Run) -> Row:
    """To half the precision."""
    return _beside_cp(run, run.files.large, "plain -> Float16", "safetensors", {"dtype": "Float16"})


def _beside_cp(
    run: Run,
    file: Made,
    said: str,
    ending: str,
    how: dict[str, Any] | None = None,
    bars: tuple[Bar, ...] = (Bar("limit", 2),),
    **keys: Any,
) -> Row:
    arguments = {"path": file.path, "target": f"{file.path}.to.{ending}", "how": how or {}, **keys}
    mine = Side("lazyckpt", "tasks.convert", arguments)
    copied = limit("cp, synced", "copy_file", (), path=file.path, target=f"{file.path}.copy")
    return run.compare(f"{memory(file.size)}, {said}", mine, (), copied, turns=3, bars=bars)


CONVERT = (to_safetensors, to_aligned, encrypting, decrypting, casting)
