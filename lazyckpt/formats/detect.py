"""Detect a file's format by its first bytes, and name formats mistaken for checkpoints.

The table of other formats is used for error messages only, when a file does not parse.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from lazyckpt.sources.encryption.cipher import MODES

HEAD: Final = 512  # bytes at the start of a file that `diagnose` examines

# The formats that can be loaded and saved: the name, which is also the ending of files and the name of the module that
# reads them, and what messages call such a file.
DESCRIPTIONS: Final = {"ckpt": "a MindSpore checkpoint", "safetensors": "a safetensors file"}
FORMAT_NAMES: Final = tuple(DESCRIPTIONS)
ENDINGS: Final = tuple(f".{name}" for name in FORMAT_NAMES)

_CKPT: Final = (b"\x0a", *(mode.magic for mode in MODES.values()))  # plain, or encrypted


class Kind(NamedTuple):
    """A format that is sometimes mistaken for a checkpoint.

    Attributes:
        mark: a regular expression for the first bytes of such a file.
        what: the name of the format in messages.
        advice: what to do with such a file.
    """

    mark: bytes
    what: str
    advice: str


_WRITER: Final = "load it with the library that wrote it"
_KINDS: Final = (
    Kind(
        rb"version https://git-lfs",
        "a Git LFS pointer, not the file it stands for",
        "run 'git lfs pull' in the repository it comes from, or download the file itself",
    ),
    Kind(
        rb"PK\x03\x04",
        "a zip archive, as torch.save writes it",
        "load it with torch.load, or convert it to a checkpoint of MindSpore's first",
    ),
    Kind(rb"PK\x05\x06", "an empty zip archive", "get the file again"),
    Kind(rb"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes it", "open it with h5py"),
    Kind(rb"\x80\x02", "a Python pickle, as old versions of torch write it", _WRITER),
    Kind(rb"\x80[\x03-\x05]", "a Python pickle", _WRITER),
    Kind(rb"\x93NUMPY", "a numpy array file", "open it with numpy.load"),
    Kind(
        rb"\x0a[\x01-\x10][0-9.]+\x12\x09MindSpore",
        "a MindIR model, a net with its graph",
        "load it with mindspore.load, or get the checkpoint that it was exported from",
    ),
    Kind(
        rb"\x08[\x01-\x7f]\x12(?:[\x04-\x7f]|[\x80-\xff]\x01)\x0a[\x01-\x7f]",
        "a strategy file, which says how values are spread over ranks and holds none",
        "give the checkpoints of the ranks",
    ),
    Kind(
        rb'{"(?:current_stage|parallel_layout_item)"',
        "a strategy file in JSON, which says how values are spread over ranks and holds none",
        "give the checkpoints of the ranks",
    ),
    Kind(rb"\x08[\x01-\x7f]\x12[\x01-\x7f][A-Za-z]", "an ONNX model", "open it with onnx"),
    Kind(rb".{16}\xde\xc0\xef\xbe", "an LMDB file, such as the index of a checkpoint", "give the checkpoint beside it"),
    Kind(rb"\x1f\x8b", "a gzip archive", "unpack it first"),
    Kind(rb"\x28\xb5\x2f\xfd", "a Zstandard archive", "unpack it first"),
    Kind(rb"\xfd7zXZ\x00", "an xz archive", "unpack it first"),
    Kind(rb"BZh[1-9]", "a bzip2 archive", "unpack it first"),
    Kind(rb".{257}ustar", "a tar archive", "unpack it first"),
    Kind(rb"GGUF", "a GGUF model", "open it with gguf"),
    Kind(rb"<!DOCTYPE", "a web page, not the file behind the link", "download the file itself"),
    Kind(rb"<html", "a web page, not the file behind the link", "download the file itself"),
)


def recognised(head: bytes) -> Kind | None:
    """The format of a file that cannot be loaded, by its first bytes; None if it is unknown."""
    return next((kind for kind in _KINDS if re.match(kind.mark, head, re.DOTALL)), None)


def diagnose(head: bytes, wanted: str = "ckpt") -> str | None:
    """One sentence that says what the file really is and what to do; None if that is unknown."""
    kind = recognised(head)
    if kind is not None:
        return f"this is {kind.what}: {kind.advice}"
    for name, matches in (("safetensors", is_safetensors), ("ckpt", is_ckpt)):
        if wanted != name and matches(head):
            return f"this is {DESCRIPTIONS[name]}: rename it to end in .{name} and load it with format={name!r}"
    if head.lstrip().startswith(b"{") and b'"weight_map"' in head:
        return (
            "this is the listing of a checkpoint in several files: index or open these, or load the listing as"
            " <name>.safetensors.index.json or <name>.ckpt.index.json"
        )
    if len(head) >= 16 and is_text(head):
        return f"this is a text file: get the {'checkpoint' if wanted == 'ckpt' else 'file'} itself"
    return None


def is_safetensors(head: bytes) -> bool:
    """Whether a file begins like a safetensors file: a header size below 2^40, then `{`."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**40


def is_ckpt(head: bytes) -> bool:
    """Whether a file begins like a MindSpore checkpoint, plain or encrypted."""
    return head.startswith(_CKPT)


def is_text(head: bytes) -> bool:
    """Whether these bytes are printable ASCII."""
    return all(byte in b"\t\n\r\x1b" or 32 <= byte < 127 for byte in head)
