"""Sources: bytes at offsets, and the one place that decides which kind a file needs.

Everything above this room reads through the small protocol in `base` and never learns whether the bytes come from a
memory map, a file descriptor, a buffer, or (as other sources) from decryption or a network.
"""

from __future__ import annotations

from typing import NamedTuple

from lazyckpt.entry import Fingerprint
from lazyckpt.errors import EncryptedFile, NotSupportedYet
from lazyckpt.sources.base import BaseSource, BytesSource, Source
from lazyckpt.sources.cipher import encryption_of
from lazyckpt.sources.local import open_local, sample

__all__ = ["BaseSource", "BytesSource", "Opened", "Source", "open_source"]


class Opened(NamedTuple):
    """A file that was opened.

    Attributes:
        path: the path with all links resolved.
        source: its bytes, as the format's reader wants them.
        fingerprint: of the file at the moment it was opened.
        mode: its permission bits.
    """

    path: str
    source: Source
    fingerprint: Fingerprint
    mode: int


def open_source(path: str, dec_key: bytes | None = None, dec_mode: str = "AES-GCM", access: str = "auto") -> Opened:
    """Open a file for random access to its plain bytes.

    Cost: one open, one map, and about 8 KiB read for the fingerprint.

    Raises:
        MissingFile: there is no such file.
        UnreadableFile: it is not a regular file, or may not be read.
        EncryptedFile: it is encrypted and no key was given.
    """
    raw, status = open_local(path, access)
    head = bytes(raw.read(0, min(4, raw.size)))
    mode = encryption_of(head)
    if dec_key is not None:
        raise NotSupportedYet(f"reading encrypted checkpoints ({dec_mode}) is not supported yet")
    if mode is not None:
        raise EncryptedFile(f"the file is encrypted ({mode}): give its key, dec_key=…, dec_mode={mode!r}", file=path)
    fingerprint = Fingerprint(status.st_size, status.st_mtime_ns, sample(raw))
    return Opened(path, raw, fingerprint, status.st_mode & 0o777)
