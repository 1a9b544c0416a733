"""What a file is, from its first bytes: for the sake of a message that helps.

One table, looked at when a file does not parse as what it should be.
"""

from __future__ import annotations

from typing import Final, NamedTuple

HEAD: Final = 512  # bytes that `diagnose` wants to see

_CKPT: Final = (b"\x0a", b"\xd8\x5e\x3a\x7f", b"\xd9\x5e\x3a\x7f", b"\xda\x5e\x3a\x7f")  # plain, or encrypted


class _Kind(NamedTuple):
    """A format that is mistaken for a checkpoint."""

    magic: bytes
    what: str
    advice: str


_KINDS: Final = (
    _Kind(
        b"version https://git-lfs",
        "a Git LFS pointer, not the file it stands for",
        "run 'git lfs pull' in the repository it comes from, or download the file itself",
    ),
    _Kind(
        b"PK\x03\x04",
        "a zip archive, as torch.save writes it",
        "load it with torch.load, or convert it to a checkpoint of MindSpore's first",
    ),
    _Kind(b"PK\x05\x06", "an empty zip archive", "get the file again"),
    _Kind(b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes it", "open it with h5py"),
    _Kind(b"\x80\x02", "a Python pickle, as old versions of torch write it", "load it with the library that wrote it"),
    _Kind(b"\x80\x03", "a Python pickle", "load it with the library that wrote it"),
    _Kind(b"\x80\x04", "a Python pickle", "load it with the library that wrote it"),
    _Kind(b"\x80\x05", "a Python pickle", "load it with the library that wrote it"),
    _Kind(b"\x93NUMPY", "a numpy array file", "open it with numpy.load"),
    _Kind(b"\x1f\x8b", "a gzip archive", "unpack it first"),
    _Kind(b"\x28\xb5\x2f\xfd", "a Zstandard archive", "unpack it first"),
    _Kind(b"GGUF", "a GGUF model", "open it with gguf"),
    _Kind(b"<!DOCTYPE", "a web page, not the file behind the link", "download the file itself"),
    _Kind(b"<html", "a web page, not the file behind the link", "download the file itself"),
)


def diagnose(head: bytes, wanted: str = "ckpt") -> str | None:
    """What the file is instead of what is wanted, and what to do, in one sentence; None if that is unknown."""
    for kind in _KINDS:
        if head.startswith(kind.magic):
            return f"this is {kind.what}: {kind.advice}"
    if wanted != "safetensors" and is_safetensors(head):
        return "this is a safetensors file: rename it to end in .safetensors and load it with format='safetensors'"
    if wanted == "safetensors" and is_ckpt(head):
        return "this is a MindSpore checkpoint: rename it to end in .ckpt and load it with format='ckpt'"
    if head.lstrip().startswith(b"{") and b'"weight_map"' in head:
        return (
            "this is the listing of a checkpoint in several files: index or open these, or load the listing as"
            " <name>.safetensors.index.json or <name>.ckpt.index.json"
        )
    if len(head) >= 16 and _is_text(head):
        return f"this is a text file: get the {'checkpoint' if wanted == 'ckpt' else 'file'} itself"
    return None


def is_safetensors(head: bytes) -> bool:
    """Whether a file's first bytes are those of a safetensors file: a header's length below 2^40, and its beginning."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**40


def is_ckpt(head: bytes) -> bool:
    """Whether a file begins as a MindSpore checkpoint does, plain or encrypted."""
    return head.startswith(_CKPT)


def _is_text(head: bytes) -> bool:
    return all(byte in b"\t\n\r\x1b" or 32 <= byte < 127 for byte in head)
