"""A sidecar reader written only from docs/concepts/sidecar.md, without lazyckpt or LMDB."""

from __future__ import annotations

import hashlib
import re
import struct
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PAGE = (Path(__file__).parents[2] / "docs" / "concepts" / "sidecar.md").read_text(encoding="utf-8")
DTYPES = {int(code): name for code, name in re.findall(r"\| (\d+) \| ([A-Z]\w+)", PAGE)}  # from the table on the page
TENSOR, STRING, MAP, REFUSED, APART = range(5)


class Record(NamedTuple):
    """The fields of a record; `rest` depends on the kind."""

    name: str
    kind: int
    dtype: str | None
    dims: tuple[int, ...]
    extents: tuple[tuple[int, int], ...]
    start: int
    stop: int
    digest: bytes
    rest: object


class Facts(NamedTuple):
    """The metadata of an index."""

    flags: int
    parameters: int
    irregular: int
    size: int
    time: int
    sample: bytes
    salt: bytes
    check: bytes


def u(data, at, size, order="little"):
    """An unsigned integer."""
    assert 0 <= at <= len(data) - size
    return int.from_bytes(data[at : at + size], order)


def pages_of(file):
    """The pages of a sidecar, after checking the checksum of each."""
    tail = file[-28:]
    assert tail[16:24] == b"lzckpage"
    size, count, length = u(tail, 0, 4), u(tail, 4, 8), u(tail, 12, 4)
    sums = file[size * count : size * count + 4 * count]
    blocks = [sums[at : at + 1024] for at in range(0, len(sums), 1024)]
    tops = file[size * count + len(sums) : -28 - length]
    assert len(tops) == 4 * len(blocks)
    assert u(tail, 24, 4) == crc32(tops + summary_of(file) + tail[:24])
    assert [u(tops, 4 * number, 4) for number in range(len(blocks))] == [crc32(block) for block in blocks]
    pages = [file[number * size : (number + 1) * size] for number in range(count)]
    assert [u(sums, 4 * number, 4) for number in range(count)] == [crc32(page) for page in pages]
    return pages


def summary_of(file):
    """The footer, which lies between the checksums and the tail."""
    return file[-28 - u(file[-28:], 12, 4) : -28]


def items_of(pages):
    """All keys and values, in the order of the tree."""
    metas = [page for page in pages[:2] if u(page, 10, 2) == 8 and u(page, 16, 4) == 0xBEEFC0DE]
    meta = max(metas, key=lambda page: u(page, 144, 8))
    assert (u(meta, 20, 4), u(meta, 40, 4), u(meta, 92, 2)) == (1, len(pages[0]), 0)
    assert u(meta, 136, 8) == len(pages) - 1
    items = list(_below(pages, u(meta, 128, 8), u(meta, 94, 2)))
    assert len(items) == u(meta, 120, 8)
    return items


def _below(pages, number, depth):
    page = pages[number]
    assert u(page, 10, 2) == (2 if depth == 1 else 1)
    for place in range((u(page, 12, 2) - 16) // 2):
        node = page[u(page, 16 + 2 * place, 2) :]
        if depth > 1:
            yield from _below(pages, u(node, 0, 4) | u(node, 4, 2) << 32, depth - 1)
            continue
        size, flags, length = u(node, 0, 4), u(node, 4, 2), u(node, 6, 2)
        key, after = node[8 : 8 + length], 8 + length
        if flags == 1:
            first = u(node, after, 8)
            assert u(pages[first], 10, 2) == 4
            yield key, b"".join(pages[first:])[16 : 16 + size]
        else:
            assert flags == 0
            yield key, node[after : after + size]


def facts_of(data):
    """Decode the metadata of an index."""
    assert len(data) == 100
    assert (data[:8], u(data, 8, 2)) == (b"lazyckpt", 4)
    time = int.from_bytes(data[36:52], "little", signed=True)
    numbers = [u(data, at, 8) for at in (12, 20, 28)]
    return Facts(u(data, 10, 2), *numbers, time, data[52:68], data[68:84], data[84:100])


def record_of(data):
    """Decode a record."""
    kind, code, ndim, digest_length = data[:4]
    count, at = u(data, 4, 4), 8 + 8 * ndim
    dims = struct.unpack_from(f"<{ndim}q", data, 8)
    start, stop = u(data, at, 8), u(data, at + 8, 8)
    extents, at = _extents(data, at + 16, count)
    digest, at = data[at : at + digest_length], at + digest_length
    rest = None
    if kind in (MAP, REFUSED, APART):
        length = u(data, at, 4)
        rest, at = data[at + 4 : at + 4 + length], at + 4 + length
        rest = {MAP: _arrays, REFUSED: bytes.decode, APART: lambda four: u(four, 0, 4)}[kind](rest)
    return Record(data[at:].decode(), kind, DTYPES.get(code), dims, extents, start, stop, digest, rest)


def _extents(data, at, count):
    numbers = struct.unpack_from(f"<{2 * count}Q", data, at)
    return tuple(zip(numbers[::2], numbers[1::2], strict=True)), at + 16 * count


def _arrays(data):
    arrays, at = [], 0
    while at < len(data):
        code, ndim, count = data[at], data[at + 1], u(data, at + 2, 4)
        dims = struct.unpack_from(f"<{ndim}q", data, at + 6)
        extents, at = _extents(data, at + 6 + 8 * ndim, count)
        arrays.append((DTYPES[code], dims, extents))
    return arrays


class Key(NamedTuple):
    """The keys derived from the key of a checkpoint for one sidecar."""

    cipher: bytes
    names: bytes
    check: bytes

    def opened(self, key, value):
        """Decrypt a sealed value."""
        padded = AESGCM(self.cipher).decrypt(value[:8] + bytes(4), value[8:], key)
        assert len(padded) % 64 == 0
        return padded.rstrip(b"\0").removesuffix(b"\x80")

    def of_name(self, name):
        """The sealed key under which the ordinal of a name is stored."""
        return b"\x02" + hashlib.blake2b(name.encode(), key=self.names, digest_size=16).digest()


def derived(key, salt):
    """Derive the keys of a sidecar from the key of a checkpoint."""
    made = HKDF(SHA256(), 80, salt, b"lazyckpt sidecar 1").derive(key)
    return Key(made[:32], made[32:64], made[64:])


def name_key(name):
    """The plain key under which the ordinal of a name is stored."""
    raw = name.encode()
    return b"\x02" + (raw if len(raw) <= 400 else raw[:400] + b"\xff" + hashlib.blake2b(raw, digest_size=32).digest())


def sample_of(file):
    """The sample of a file, as a fingerprint holds it."""
    ends = file[:4096][:2048], file[:4096][2048:], file[-4096:][:2048], file[-4096:][2048:]
    return b"".join(crc32(end).to_bytes(4, "little") for end in ends)


def blocks_of(data):
    """The table of blocks: (plain offset, plain length, offset, stored, iv, tag) of each."""
    return [struct.unpack_from("<QQQQ16s16s", data, at) for at in range(0, len(data), 64)]
