"""Rows about writing: conversions beside `cp` of the same file. Both sides bring what they wrote to the disk."""

from __future__ import annotations

from typing import Any

from benchmarks.checkpoints import MIB, Made
from benchmarks.measure import Side, compare
from benchmarks.run import Run
from benchmarks.table import Bar, Row, memory

# At least 0.7 times as fast as cp, with the largest value and 128 MiB in memory.
_BARS = (Bar("ratio", 1 / 0.7), Bar("extra", (16 + 128) * MIB))


def to_safetensors(run: Run) -> Row:
    """From MindSpore's format to safetensors."""
    return _beside_cp(run, run.files.four, "plain -> safetensors", "safetensors", bars=_BARS)


def to_aligned(run: Run) -> Row:
    """The same format, contents aligned."""
    return _beside_cp(run, run.files.four, "plain -> aligned .ckpt", "ckpt", bars=_BARS)


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
    bars: tuple[Bar, ...] = (),
    **keys: Any,
) -> Row:
    mine = Side(
        "lazyckpt", "convert", {"path": file.path, "target": f"{file.path}.to.{ending}", "how": how or {}, **keys}
    )
    peer = Side("cp, synced", "copy_file", {"path": file.path, "target": f"{file.path}.copy"}, (), memory=False)
    total = memory(sum(value.length for value in file.values))
    return compare(f"{total}, {said}", mine, peer, repeat=run.turns(5), bars=bars)


CONVERT = (to_safetensors, to_aligned, encrypting, decrypting, casting)
