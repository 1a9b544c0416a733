"""Rows about encrypted files, against OpenSSL alone (see `encrypting`) and against MindSpore."""

from __future__ import annotations

import os
from functools import partial

from benchmarks.checkpoints import Checkpoints, Placed
from benchmarks.encrypting import FRAME_PLAINTEXT, PIECE
from benchmarks.measure import Measured, Side, compare
from benchmarks.run import Run
from benchmarks.table import Bar, Row

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gcm_value(run: Run) -> Row:
    """One value that lies in one frame, which has to be verified whole."""
    return _gcm_value(run, _value(run.files, frames=1), "one value")


def gcm_value_across(run: Run) -> Row:
    """One value that lies in two frames."""
    return _gcm_value(run, _value(run.files, frames=2), "one value in two frames")


def _gcm_value(run: Run, value: Placed, said: str) -> Row:
    path, key, (first, last) = run.files.encrypted("AES-GCM"), run.files.key, _frames(value)
    count = last - first + 1
    arguments = {"path": path, "key": key, "first": first, "count": count, "threads": min(count, CORES)}
    peer = Side(f"OpenSSL, {count} frame{'s' * (count > 1)}", "openssl_frames", arguments, (), memory=False)
    return _one_value(run, "AES-GCM", value, said, peer, at_most=2)


def cbc_value(run: Run, mode: str, at_most: float) -> Row:
    """One value, of which only its own bytes have to be decrypted."""
    value = _value(run.files, frames=1)
    arguments = {
        "path": run.files.encrypted(mode),
        "key": run.files.key,
        "offset": value.offset,
        "length": value.length,
    }
    peer = Side("OpenSSL, its bytes", "openssl_range", arguments, (), memory=False)
    return _one_value(run, mode, value, "one value", peer, at_most)


def _one_value(run: Run, mode: str, value: Placed, said: str, peer: Side, at_most: float) -> Row:
    mine = Side("lazyckpt", "value", {**_decryption(run, mode), "name": value.name})
    bars = (Bar("ratio", at_most), Bar("extra", value.length + 2 * FRAME_PLAINTEXT))
    return compare(f"{mode}: warm open + {said}", mine, peer, repeat=run.turns(9), calls=3, bars=bars)


def everything(run: Run, mode: str, task: str, at_most: float | None) -> Row:
    """Every value, against OpenSSL on all frames on all cores."""
    said = {"load": "load()", "iterate": "asnumpy() one by one"}[task]
    bars = () if at_most is None else (Bar("ratio", at_most),)
    mine = Side("lazyckpt", task, _decryption(run, mode))
    return compare(f"{mode}: everything, {said}", mine, _openssl(run, mode), repeat=run.turns(3), bars=bars)


def index(run: Run, mode: str, at_most: float | None) -> Row:
    """The first index, beside OpenSSL on the whole file on all cores."""
    bars = () if at_most is None else (Bar("seconds", at_most),)
    mine = Side("lazyckpt", "first_index", _decryption(run, mode))
    return compare(f"{mode}: first index", mine, _openssl(run, mode), repeat=run.turns(5), bars=bars)


def against_mindspore(run: Run, mode: str) -> Row:
    """One value with `choice_func` on both sides."""
    arguments = {**_decryption(run, mode), "name": _value(run.files, frames=1).name}
    mine, peer = Side("lazyckpt", "chosen", arguments), run.mindspore_side(**arguments)
    return compare(f"{mode}: one value, chosen, sum", mine, peer, repeat=run.turns(3))


def _decryption(run: Run, mode: str) -> Measured:
    return {"path": run.files.encrypted(mode), "dec_key": run.files.key, "dec_mode": mode}


def _openssl(run: Run, mode: str) -> Side:
    arguments = {"path": run.files.encrypted(mode), "key": run.files.key, "threads": CORES}
    return Side(f"OpenSSL, {CORES} threads", "openssl_frames", arguments, (), memory=False)


def _value(files: Checkpoints, frames: int) -> Placed:
    """A value from the middle of the file on that lies in so many frames."""
    values = files.large.values
    return next(value for value in values[len(values) // 3 :] if len(set(_frames(value))) == frames)


def _frames(value: Placed) -> tuple[int, int]:
    return value.offset // FRAME_PLAINTEXT, (value.offset + value.length + PIECE) // FRAME_PLAINTEXT


CRYPTO = (
    gcm_value,
    gcm_value_across,
    partial(cbc_value, mode="AES-CBC", at_most=4),
    partial(cbc_value, mode="SM4-CBC", at_most=1.3),
    partial(everything, mode="AES-GCM", task="load", at_most=2),
    partial(everything, mode="AES-GCM", task="iterate", at_most=2),
    partial(everything, mode="AES-CBC", task="load", at_most=None),
    partial(everything, mode="AES-CBC", task="iterate", at_most=None),
    partial(everything, mode="SM4-CBC", task="load", at_most=1.3),
    partial(everything, mode="SM4-CBC", task="iterate", at_most=1.3),
    partial(index, mode="AES-GCM", at_most=None),
    partial(index, mode="AES-CBC", at_most=0.1),
    partial(index, mode="SM4-CBC", at_most=0.1),
    partial(against_mindspore, mode="AES-GCM"),
    partial(against_mindspore, mode="AES-CBC"),
    partial(against_mindspore, mode="SM4-CBC"),
)
