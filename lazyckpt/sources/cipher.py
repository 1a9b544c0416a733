"""MindSpore's encryption modes and the bytes that name them."""

from __future__ import annotations

from typing import Final

MAGICS: Final = {
    b"\xd8\x5e\x3a\x7f": "AES-GCM",
    b"\xd9\x5e\x3a\x7f": "AES-CBC",
    b"\xda\x5e\x3a\x7f": "SM4-CBC",
}


def encryption_of(head: bytes) -> str | None:
    """The mode that a file's first four bytes name, or None for a plain file."""
    return MAGICS.get(head[:4])
