"""Rows about encrypted files, against OpenSSL alone (see `encrypting`) and against MindSpore."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.bars import MINDSPORE, NEAR, WITHIN
from benchmarks.checkpoints import Checkpoints, Placed
from benchmarks.encrypting import FRAME_PLAINTEXT, PIECE
from benchmarks.figures import Bar, Row
from benchmarks.processes import Side
from benchmarks.run import CORES, Run, limit


def gcm_value(run: Run, frames: int, said: str) -> Row:
    """One value that lies in so many frames, which have to be verified whole."""
    value = _value(run.files, frames)
    path, key, (first, last) = run.files.encrypted("AES-GCM"), run.files.key, _frames(value)
    count = last - first + 1
    arguments = {"path": path, "key": key, "first": first, "count": count, "threads": min(count, CORES)}
    bare = limit(f"OpenSSL, {count} frame{'s' * (count > 1)}", "openssl_frames", (), **arguments)
    return _one_value(run, "AES-GCM", value, said, bare)


def cbc_value(run: Run, mode: str) -> Row:
    """One value, of which only its own bytes have to be decrypted."""
    value = _value(run.files, frames=1)
    arguments = {"path": run.files.encrypted(mode), "key": run.files.key}
    bare = limit("OpenSSL, its bytes", "openssl_range", (), **arguments, offset=value.offset, length=value.length)
    return _one_value(run, mode, value, "one value", bare)


def _one_value(run: Run, mode: str, value: Placed, said: str, bare: Side) -> Row:
    arguments = {"by": "lazyckpt", **_decryption(run, mode), "name": value.name, "how": "copy"}
    bars = (WITHIN, Bar("extra", value.length + 2 * FRAME_PLAINTEXT))
    mine = Side("lazyckpt", "opened.value", arguments)
    return run.compare(f"{mode}: warm open + {said}", mine, (), bare, turns=9, calls=3, bars=bars)


def everything(run: Run, mode: str, task: str, bar: Bar) -> Row:
    """Every value, against OpenSSL on all frames on all cores."""
    said = {"load": "load()", "iterate": "asnumpy() one by one"}[task]
    arguments: dict[str, Any] = _decryption(run, mode)
    mine = Side("lazyckpt", "tasks.iterate", arguments)
    if task == "load":
        mine = Side("lazyckpt", "opened.load", {"by": "lazyckpt", **arguments})
    return run.compare(f"{mode}: everything, {said}", mine, (), _openssl(run, mode), turns=3, bars=(bar,))


def index(run: Run, mode: str, at_most: float | None) -> Row:
    """The first index, beside OpenSSL on the whole file on all cores."""
    bars = (WITHIN,) if at_most is None else (Bar("seconds", at_most), WITHIN)
    mine = Side("lazyckpt", "tasks.first_index", _decryption(run, mode))
    return run.compare(f"{mode}: first index", mine, (), _openssl(run, mode), turns=5, bars=bars)


def against_mindspore(run: Run, mode: str) -> Row:
    """One value with `choice_func` on both sides."""
    arguments = {**_decryption(run, mode), "name": _value(run.files, frames=1).name}
    mine, peers = Side("lazyckpt", "tasks.chosen", arguments), run.mindspore("tasks.mindspore_chosen", **arguments)
    name = f"{mode}: one value, chosen, sum"
    return run.compare(name, mine, peers, turns=3, fresh=True, bars=(MINDSPORE,))


def _decryption(run: Run, mode: str) -> dict[str, Any]:
    return {"path": run.files.encrypted(mode), "dec_key": run.files.key, "dec_mode": mode}


def _openssl(run: Run, mode: str) -> Side:
    arguments = {"path": run.files.encrypted(mode), "key": run.files.key, "threads": CORES}
    return limit(f"OpenSSL, {CORES} threads", "openssl_frames", (), **arguments)


def _value(files: Checkpoints, frames: int) -> Placed:
    """A value from the middle of the file on that lies in so many frames."""
    values = files.large.values
    return next(value for value in values[len(values) // 3 :] if len(set(_frames(value))) == frames)


def _frames(value: Placed) -> tuple[int, int]:
    return value.offset // FRAME_PLAINTEXT, (value.offset + value.length + PIECE) // FRAME_PLAINTEXT


CRYPTO = (
    partial(gcm_value, frames=1, said="one value"),
    partial(gcm_value, frames=2, said="one value in two frames"),
    partial(cbc_value, mode="AES-CBC"),
    partial(cbc_value, mode="SM4-CBC"),
    partial(everything, mode="AES-GCM", task="load", bar=NEAR),
    partial(everything, mode="AES-GCM", task="iterate", bar=WITHIN),
    partial(everything, mode="AES-CBC", task="load", bar=WITHIN),
    partial(everything, mode="AES-CBC", task="iterate", bar=WITHIN),
    partial(everything, mode="SM4-CBC", task="load", bar=NEAR),
    partial(everything, mode="SM4-CBC", task="iterate", bar=NEAR),
    partial(index, mode="AES-GCM", at_most=None),
    partial(index, mode="AES-CBC", at_most=0.1),
    partial(index, mode="SM4-CBC", at_most=0.1),
    partial(against_mindspore, mode="AES-GCM"),
    partial(against_mindspore, mode="AES-CBC"),
    partial(against_mindspore, mode="SM4-CBC"),
)
