"""Encrypted checkpoints assembled by hand, with an option for each part of a frame.

    frame = magic [tag, GCM only] block_len iv_len iv cipher_len ciphertext

Nothing here is imported from lazyckpt, so that a mistake there is not repeated here. `cryptography` encrypts; `split`
splits a file into frames again.
"""

from __future__ import annotations

import hashlib
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

MAGICS = {"AES-GCM": b"\xd8\x5e\x3a\x7f", "AES-CBC": b"\xd9\x5e\x3a\x7f", "SM4-CBC": b"\xda\x5e\x3a\x7f"}
MODES = tuple(MAGICS)
CBC_MODES = MODES[1:]
KEY_SIZES = {"AES-GCM": (16, 24, 32), "AES-CBC": (16, 24, 32), "SM4-CBC": (16,)}
HEADER = {"AES-GCM": 48, "AES-CBC": 32, "SM4-CBC": 32}  # bytes before the ciphertext
CONTENT = {"AES-GCM": 24, "AES-CBC": 8, "SM4-CBC": 8}  # the offset of iv_len in a frame
KEY = bytes(range(1, 17))  # valid in every mode
WHOLE = 64 * 2**20  # bytes of plaintext in a block of MindSpore
CLEAR_TRAILER = b"crc_num" + bytes(10)


def key_of(size):
    """A key of this length in bytes."""
    return bytes(range(1, size + 1))


def iv_of(number):
    """A deterministic IV for a block, different for each number."""
    return hashlib.blake2b(number.to_bytes(8, "little"), digest_size=16).digest()


def cut(data, block):
    """Split a plaintext into blocks. `block` is their size, or a list of sizes to which the rest is added."""
    if isinstance(block, int):
        return [data[start : start + block] for start in range(0, len(data), block)]
    blocks = []
    for length in block:
        blocks.append(data[:length])
        data = data[length:]
    return [part for part in (*blocks, data) if part]


def frame(plain, mode="AES-GCM", key=KEY, iv=bytes(16), nonce=12, padding=None):
    """Encrypt a block, and return its frame.

    Args:
        plain: the plaintext of the block.
        mode: the encryption mode, as MindSpore names it.
        key: the key, of a length that the mode allows.
        iv: 16 bytes.
        nonce: the number of bytes of the IV that GCM uses: 12 as in MindSpore, or all 16.
        padding: the padding of a CBC block; None for that of PKCS#7.
    """
    cipher = algorithms.SM4 if mode == "SM4-CBC" else algorithms.AES
    tag = b""
    if mode == "AES-GCM":
        encryptor = Cipher(cipher(key), modes.GCM(iv[:nonce])).encryptor()
        content = encryptor.update(plain) + encryptor.finalize()
        tag = encryptor.tag
    else:
        padder = PKCS7(128).padder()
        padded = padder.update(plain) + padder.finalize() if padding is None else plain + padding
        content = Cipher(cipher(key), modes.CBC(iv)).encryptor().update(padded)
    return framed(content, mode, iv, tag)


def framed(content, mode="AES-GCM", iv=bytes(16), tag=bytes(16), **claims):
    """A ciphertext with its frame header. `claims` override fields: block_len, iv_len, cipher_len, magic."""
    said = {"block_len": len(content) + 24, "iv_len": 16, "cipher_len": len(content), "magic": MAGICS[mode], **claims}
    head = said["magic"] + (tag if mode == "AES-GCM" else b"")
    head += struct.pack("<ii", said["block_len"], said["iv_len"]) + iv + struct.pack("<i", said["cipher_len"])
    return head + content


def encrypted(data, mode="AES-GCM", key=KEY, block=WHOLE, nonce=12, ivs=iv_of, trailer=b""):
    """A whole encrypted file.

    Args:
        data: the plaintext.
        mode: the encryption mode, as MindSpore names it.
        key: the key, of a length that the mode allows.
        block: the number of bytes of plaintext in a block, or a list of such numbers.
        nonce: see `frame`.
        ivs: a function that returns the IV of a block from its number.
        trailer: unencrypted bytes at the end of the file.
    """
    blocks = enumerate(cut(data, block))
    return b"".join(frame(plain, mode, key, ivs(number), nonce) for number, plain in blocks) + trailer


def split(file, mode="AES-GCM"):
    """Split a file into its frames."""
    frames, place = [], 0
    while place < len(file):
        content = place + HEADER[mode]
        (length,) = struct.unpack_from("<i", file, content - 4)
        frames.append(file[place : content + length])
        place = content + length
    return frames


def passing_key(file, mode="AES-CBC"):
    """A wrong key under which the padding of the only block of a CBC file happens to be valid."""
    cipher = algorithms.SM4 if mode == "SM4-CBC" else algorithms.AES
    for number in range(100_000):
        key = number.to_bytes(16, "big")
        if Cipher(cipher(key), modes.CBC(file[-32:-16])).decryptor().update(file[-16:])[-1] == 1:
            return key
    raise AssertionError("no such key")


def swapped(file, first, second, mode="AES-GCM"):
    """The file with two of its blocks exchanged."""
    frames = split(file, mode)
    frames[first], frames[second] = frames[second], frames[first]
    return b"".join(frames)


def flipped(file, place, bit=0):
    """The file with one bit flipped."""
    changed = bytearray(file)
    changed[place] ^= 1 << bit
    return bytes(changed)


def shows(data, key):
    """The forms in which a key occurs in bytes: raw, in hexadecimal, or as Python prints it."""
    digits = key.hex()
    forms = [key, digits.encode(), digits.upper().encode(), repr(key)[2:-1].encode(), repr([*key])[1:-1].encode()]
    return [form for form in forms if form in data]
