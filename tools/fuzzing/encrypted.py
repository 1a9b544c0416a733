"""Encrypted files: from frames to plaintext to values, and the same from the outside."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator

import checkpoints as made
import encryption

from fuzzing.checkpoints import read_values
from fuzzing.target import Seed, Target, Violation, folder, same
from lazyckpt.errors import LazyCkptError
from lazyckpt.formats import scan
from lazyckpt.loading import load_checkpoint
from lazyckpt.sources.base import BytesSource
from lazyckpt.sources.encryption.cipher import DEFAULT_MODE, MODES, CipherKey
from lazyckpt.sources.encryption.decryption import DecryptedSource, open_encrypted
from lazyckpt.sources.encryption.frames import FrameTable, read_frame_headers
from lazyckpt.sources.encryption.keys import Secret

PLAIN = made.checkpoint(made.MIXED)
BLOCKS = (1000, len(PLAIN))
GENUINE = {part for block in BLOCKS for part in encryption.cut(PLAIN, block)}


def encrypted_seeds() -> list[Seed]:
    """One checkpoint in every mode, in one frame and in several."""
    seeds = []
    for mode, block in itertools.product(MODES, BLOCKS):
        data = encryption.encrypted(PLAIN, mode, block=block)
        frame = encryption.HEADER[mode]
        stored = block + (0 if mode == DEFAULT_MODE else 16 - block % 16)
        starts = range(0, len(data) - frame, frame + stored)
        seeds.append(Seed(data, [place for start in starts for place in range(start, min(len(data), start + frame))]))
    return seeds


def read_encrypted(data: bytes) -> None:
    """Decrypt with the mode named by the first bytes, then scan and read every value.

    A GCM file gives no forged block. With the sound file's table, which an index holds, it gives no moved block either.
    """
    for table in _tables():
        pinned = open_encrypted(BytesSource(data), CipherKey(MODES[DEFAULT_MODE], Secret(encryption.KEY)), table)
        for start, block in _blocks(pinned):
            if block != PLAIN[start : start + len(block)]:
                raise Violation("a block is read that is not the one that was indexed")
    names = {mode.magic[0]: mode for mode in MODES.values()}
    mode = names.get(data[0] if data else 0, MODES[DEFAULT_MODE])
    source = open_encrypted(BytesSource(data), CipherKey(mode, Secret(encryption.KEY)), cache=2**20)
    if mode.tagged and not {block for _, block in _blocks(source)} <= GENUINE:
        raise Violation("a block authenticates that nobody encrypted")
    read_values(source, list(scan(source, "ckpt")))


@functools.cache
def _tables() -> list[FrameTable]:
    files = (encryption.encrypted(PLAIN, block=block) for block in BLOCKS)
    return [read_frame_headers(BytesSource(file), MODES[DEFAULT_MODE]) for file in files]


def _blocks(source: DecryptedSource) -> Iterator[tuple[int, bytes]]:
    """The blocks that authenticate, and their offsets in the plaintext."""
    for number in range(len(source.table)):
        frame = source.table[number]
        with contextlib.suppress(LazyCkptError):
            yield frame.plain, bytes(source.read(frame.plain, frame.length))


def load_encrypted(data: bytes) -> None:
    """The same through the public interface: a file, loaded with its key, cold and from its index."""
    path = folder() / "net.ckpt"
    path.write_bytes(data)
    names = {mode.magic[0]: mode.name for mode in MODES.values()}
    mode = names.get(data[0] if data else 0, DEFAULT_MODE)
    found = []
    for _ in ("cold", "warm"):
        with load_checkpoint(str(path), dec_key=encryption.KEY, dec_mode=mode) as checkpoint:
            values = checkpoint.load()
        found.append(values)
    cold, warm = found
    if list(cold) != list(warm) or not all(same(cold[name], warm[name]) for name in cold):
        raise Violation("cold and warm, a file is not the same")


TARGETS = {
    "encrypted": Target(encrypted_seeds, read_encrypted, memory=16),
    "loading": Target(encrypted_seeds, load_encrypted, memory=16),
}
