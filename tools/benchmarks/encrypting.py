"""MindSpore's encryption, and how fast OpenSSL itself decrypts it. Imports neither numpy nor lazyckpt.

    frame = magic u32  [tag 16, AES-GCM only]  length i32  iv length i32  iv 16  cipher length i32  ciphertext

Each frame holds up to 64 MiB of the plain file; integers are little-endian. The baseline decrypts frames that lie in
memory (a map whose pages are there) into buffers that are allocated and touched beforehand.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

FRAME_PLAINTEXT = 64 * 2**20
PIECE = 16  # bytes of one AES or SM4 block
MAGICS = {"AES-GCM": 0x7F3A5ED8, "AES-CBC": 0x7F3A5ED9, "SM4-CBC": 0x7F3A5EDA}
_MODES = {magic: mode for mode, magic in MAGICS.items()}
_HEAD = struct.Struct("<I")
_REST = struct.Struct("<ii16si")


class Frame(NamedTuple):
    """One frame of an encrypted file; `offset` and `length` are those of its ciphertext."""

    mode: str
    tag: bytes
    iv: bytes
    offset: int
    length: int


def encrypt(plain: str, target: str, mode: str, key: bytes) -> None:
    """Encrypt a file as MindSpore does. The result is synced and in the page cache."""
    with open(plain, "rb") as source, open(target, "wb") as file:
        while piece := source.read(FRAME_PLAINTEXT):
            iv = os.urandom(16)
            cipher = _cipher(mode, key, iv).encryptor()
            if mode != "AES-GCM":
                padder = PKCS7(8 * PIECE).padder()
                piece = padder.update(piece) + padder.finalize()
            ciphertext = cipher.update(piece) + cipher.finalize()
            tag = cipher.tag if mode == "AES-GCM" else b""
            rest = _REST.pack(_REST.size - 4 + len(ciphertext), len(iv), iv, len(ciphertext))
            file.writelines((_HEAD.pack(MAGICS[mode]), tag, rest, ciphertext))
        file.flush()
        os.fsync(file.fileno())


def frames(data: memoryview) -> list[Frame]:
    """Where the frames of an encrypted file are."""
    found, position = [], 0
    while position < len(data):
        mode = _MODES[_HEAD.unpack_from(data, position)[0]]
        position += _HEAD.size
        tag = bytes(data[position : position + 16]) if mode == "AES-GCM" else b""
        position += len(tag)
        _, _, iv, length = _REST.unpack_from(data, position)
        position += _REST.size
        found.append(Frame(mode, tag, iv, position, length))
        position += length
    return found


def frame_decryptor(path: str, key: bytes, first: int, count: int | None, threads: int) -> Callable[[], None]:
    """A function that decrypts `count` frames (None: all) on so many threads, verifying tags."""
    data = _mapped(path)
    wanted = frames(data)[first:][:count]
    buffers = threading.local()
    pool = ThreadPoolExecutor(
        threads, initializer=lambda: setattr(buffers, "own", _buffer(FRAME_PLAINTEXT + 2 * PIECE))
    )

    def decrypt(frame: Frame) -> None:
        cipher = _cipher(frame.mode, key, frame.iv, frame.tag).decryptor()
        cipher.update_into(data[frame.offset : frame.offset + frame.length], buffers.own)
        cipher.finalize()

    def decrypt_all() -> None:
        for _ in pool.map(decrypt, wanted):
            pass

    return decrypt_all


def range_decryptor(path: str, key: bytes, offset: int, length: int) -> Callable[[], None]:
    """A function that decrypts `length` bytes of a CBC file's plaintext, which lie in one frame, on one thread."""
    data = _mapped(path)
    number, start = divmod(offset, FRAME_PLAINTEXT)
    frame = frames(data)[number]
    begin = start // PIECE * PIECE
    end = -(-(start + length) // PIECE) * PIECE
    iv = data[frame.offset + begin - PIECE : frame.offset + begin] if begin else frame.iv
    ciphertext = data[frame.offset + begin : frame.offset + end]
    buffer = _buffer(len(ciphertext) + PIECE)

    def decrypt() -> None:
        cipher = _cipher(frame.mode, key, bytes(iv)).decryptor()
        cipher.update_into(ciphertext, buffer)

    return decrypt


def _cipher(mode: str, key: bytes, iv: bytes, tag: bytes | None = None) -> Cipher:
    if mode == "AES-GCM":
        return Cipher(algorithms.AES(key), modes.GCM(iv[:12], tag))  # MindSpore uses only 12 of the 16 bytes
    return Cipher((algorithms.AES if mode == "AES-CBC" else algorithms.SM4)(key), modes.CBC(iv))


def _mapped(path: str) -> memoryview:
    with open(path, "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _buffer(size: int) -> bytearray:
    buffer = bytearray(size)
    buffer[:: mmap.PAGESIZE] = b"\x01" * len(range(0, size, mmap.PAGESIZE))  # so that its pages are there
    return buffer
