"""Encrypted checkpoints made by hand, with a knob for each part of a frame.

    frame = magic [tag, GCM only] block_len iv_len iv cipher_len ciphertext

Nothing here comes from lazyckpt, so that a mistake there is not repeated here: `cryptography` encrypts, `split` takes
a file apart again.
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
HEADER = {"AES-GCM": 48, "AES-CBC": 32, "SM4-CBC": 32}  # bytes before a ciphertext
CONTENT = {"AES-GCM": 24, "AES-CBC": 8, "SM4-CBC": 8}  # where iv_len stands in a frame
KEY = bytes(range(1, 17))  # fits every mode
WHOLE = 64 * 2**20  # plaintext of a block as MindSpore cuts it
CLEAR_TRAILER = b"crc_num" + bytes(10)


def key_of(size):
    """A key of so many bytes."""
    return bytes(range(1, size + 1))


def iv_of(number):
    """An iv for a block: the same for the same number, different for different ones."""
    return hashlib.blake2b(number.to_bytes(8, "little"), digest_size=16).digest()


def cut(data, block):
    """A plaintext in blocks of `block` bytes; or, if that is a list, of these numbers of bytes and what is left."""
    if isinstance(block, int):
        return [data[start : start + block] for start in range(0, len(data), block)]
    blocks = []
    for length in block:
        blocks.append(data[:length])
        data = data[length:]
    return [part for part in (*blocks, data) if part]


def frame(plain, mode="AES-GCM", key=KEY, iv=bytes(16), nonce=12, padding=None):
    """One block, encrypted and framed.

    Args:
        plain: its bytes.
        mode: as MindSpore names it.
        key: of a length that fits the mode.
        iv: 16 bytes.
        nonce: how many of them GCM uses: 12 as MindSpore does, or all 16.
        padding: the bytes that fill the last piece of a CBC block; None for PKCS#7's.
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
    """A ciphertext with a header before it; `claims` replace what the header says (block_len, iv_len, cipher_len)."""
    said = {"block_len": len(content) + 24, "iv_len": 16, "cipher_len": len(content), "magic": MAGICS[mode], **claims}
    head = said["magic"] + (tag if mode == "AES-GCM" else b"")
    head += struct.pack("<ii", said["block_len"], said["iv_len"]) + iv + struct.pack("<i", said["cipher_len"])
    return head + content


def encrypted(data, mode="AES-GCM", key=KEY, block=WHOLE, nonce=12, ivs=iv_of, trailer=b""):
    """A whole file.

    Args:
        data: the plaintext.
        mode: as MindSpore names it.
        key: of a length that fits the mode.
        block: bytes of plaintext in a block, or a list of such numbers.
        nonce: see `frame`.
        ivs: gives the iv of a block from its number.
        trailer: what follows in clear.
    """
    blocks = enumerate(cut(data, block))
    return b"".join(frame(plain, mode, key, ivs(number), nonce) for number, plain in blocks) + trailer


def split(file, mode="AES-GCM"):
    """The frames of a whole file, each as its bytes."""
    frames, place = [], 0
    while place < len(file):
        content = place + HEADER[mode]
        (length,) = struct.unpack_from("<i", file, content - 4)
        frames.append(file[place : content + length])
        place = content + length
    return frames


def passing_key(file, mode="AES-CBC"):
    """A wrong key under which the padding of a CBC file's only block happens to be possible."""
    cipher = algorithms.SM4 if mode == "SM4-CBC" else algorithms.AES
    for number in range(100_000):
        key = number.to_bytes(16, "big")
        if Cipher(cipher(key), modes.CBC(file[-32:-16])).decryptor().update(file[-16:])[-1] == 1:
            return key
    raise AssertionError("no such key")


def swapped(file, first, second, mode="AES-GCM"):
    """The file with two of its blocks in each other's place."""
    frames = split(file, mode)
    frames[first], frames[second] = frames[second], frames[first]
    return b"".join(frames)


def flipped(file, place, bit=0):
    """The file with one bit changed."""
    changed = bytearray(file)
    changed[place] ^= 1 << bit
    return bytes(changed)


def shows(data, key):
    """The ways in which a key stands in bytes: as it is, in hexadecimal, as Python prints it."""
    digits = key.hex()
    forms = [key, digits.encode(), digits.upper().encode(), repr(key)[2:-1].encode(), repr([*key])[1:-1].encode()]
    return [form for form in forms if form in data]
