"""Read bytes at offsets: local files, objects on the network; decryption and its ciphers.

Everything above this room reads through the protocol `Source` (see `base`), and does not know whether the bytes come
from a memory map, a file descriptor, a buffer, decryption or a network. `open_source` chooses the implementation.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from lazyckpt.errors import ArgumentValueError, EncryptedFile, WrongKey
from lazyckpt.sources.base import BaseSource, BytesSource, Source
from lazyckpt.sources.encryption.cipher import DEFAULT_MODE, MAGIC_LENGTH, MODE_OF_MAGIC, MODES, CipherKey
from lazyckpt.sources.encryption.keys import OWN_MODE, AnySecret, DeferredKey
from lazyckpt.sources.local import open_local
from lazyckpt.sources.origin import Origin
from lazyckpt.sources.paths import is_url

CACHE_BYTES: Final = 256 * 2**20  # default size of the cache of decrypted blocks

__all__ = ["CACHE_BYTES", "BaseSource", "BytesSource", "RawFile", "Source", "open_source", "reopen"]


class RawFile(NamedTuple):
    """An open file with its bytes as they are on disk: encrypted, if it is.

    Attributes:
        source: the bytes.
        origin: where it came from.
        lock: its key and mode; None for a plain file.
    """

    source: Source
    origin: Origin
    lock: CipherKey | None


def open_source(
    path: str,
    key: AnySecret = None,
    dec_mode: str = DEFAULT_MODE,
    access: str = "auto",
    cache: int = CACHE_BYTES,
) -> RawFile:
    """Open a file, or an object at a URL, for random access.

    Args:
        path: the path with links resolved, or the URL.
        key: the key of an encrypted file.
        dec_mode: its mode, or `OWN_MODE` for the mode that its first bytes name.
        access: `mmap`, `pread` or `auto`, for a local file.
        cache: bytes of fetched ranges of a remote object to keep in memory.

    Cost: one open, one map, and 8 KiB read for the fingerprint; for a remote object two requests.

    Raises:
        MissingFile: there is no such file.
        UnreadableFile: it is not a regular file, or reading it is not permitted.
        EncryptedFile: it is encrypted and no key was given.
        WrongKey: a key was given and the file is plain, or encrypted in another mode.
        ArgumentValueError: the mode does not exist, or does not allow the length of the key.
    """
    raw, origin, head = _open(path, access, cache)
    try:
        return RawFile(raw, origin, _lock(raw, head, key, dec_mode))
    except BaseException:
        raw.close()
        raise


def reopen(opened: RawFile) -> RawFile:
    """Open the file that has this path now, with the same key; it may be a different file.

    Raises:
        MissingFile, UnreadableFile: there is nothing to read.
    """
    raw, origin, _ = _open(opened.origin.path, "auto", 0)
    return opened._replace(source=raw, origin=origin)


def _open(path: str, access: str, cache: int) -> tuple[Source, Origin, bytes]:
    """Choose and open the source for a path: the source, its origin, and its first bytes."""
    if is_url(path):
        raw, origin = _open_remote(path, cache)
        return raw, origin, bytes(raw.snapshot(0, min(MAGIC_LENGTH, raw.size)))
    return open_local(path, access)


def _open_remote(url: str, cache: int) -> tuple[Source, Origin]:
    from lazyckpt.sources.remote import open_remote

    return open_remote(url, cache)


def _lock(raw: Source, head: bytes, key: AnySecret, mode_name: str) -> CipherKey | None:
    found = MODE_OF_MAGIC.get(head[:MAGIC_LENGTH])
    if isinstance(key, DeferredKey):
        if found is None and key.insists and raw.size:
            raise _no_use(raw)
        key = None if found is None else key.of(raw.name, found.name)
    if mode_name == OWN_MODE:
        mode_name = DEFAULT_MODE if found is None else found.name
    if key is None:
        if found is not None:
            raise EncryptedFile(
                f"the file is encrypted: give its key, dec_key=…, and dec_mode={found.name!r}", file=raw.name
            )
        return None
    if mode_name not in MODES:
        raise ArgumentValueError(f"dec_mode must be one of {', '.join(MODES)}, not {mode_name!r}")
    lock = CipherKey(MODES[mode_name], key)
    if not raw.size:
        return None
    if found is None:
        raise _no_use(raw)
    if found.name != mode_name:
        raise WrongKey(
            f"the file is encrypted with {found.name}, not {mode_name}: give dec_mode={found.name!r}", file=raw.name
        )
    return lock


def _no_use(raw: Source) -> WrongKey:
    return WrongKey("a key was given, but the file is not encrypted: leave dec_key out", file=raw.name)
