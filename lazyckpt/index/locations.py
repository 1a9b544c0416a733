"""The locations of sidecars.

A sidecar is stored beside its checkpoint as `<checkpoint>.lmdb`. If that folder cannot be written, or is on a network
file system (where LMDB should not write; an existing sidecar is still read there), the sidecar is stored in the user's
cache folder under a hash of the checkpoint's path. The sidecar of a remote object is stored there too, under hashes of
the URL and of the object's version; one that was published beside the object is downloaded once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Final

from lazyckpt.errors import ArgumentValueError, FileInTheWay, LazyCkptError
from lazyckpt.index.lmdb_pages import TAIL_MAGIC, TAIL_MAGIC_FROM_END
from lazyckpt.index.records import BadRecord
from lazyckpt.index.schema import SUFFIX
from lazyckpt.index.sidecar import Sidecar
from lazyckpt.runtime import log
from lazyckpt.runtime.atomic_write import make_private_folders, temporary
from lazyckpt.runtime.descriptor_pool import open_descriptor
from lazyckpt.sources import RawFile
from lazyckpt.sources.local import NETWORK_FILE_SYSTEMS, file_system
from lazyckpt.sources.paths import download, is_url, redact_url, upload

CACHE_VARIABLE: Final = "LAZYCKPT_CACHE"
_MAGIC: Final = (0xBEEFC0DE).to_bytes(4, sys.byteorder)  # LMDB's, in the first of its meta pages
_PRIVATE: Final = 0o600
_LMDB_MAGIC: Final = slice(16, 20)


def known(raw: RawFile) -> Iterator[str]:
    """Locations that may hold an index of this file, likeliest first. The last is downloaded on demand."""
    if not raw.origin.is_remote:
        yield beside(raw.origin.path)
    far = cached(raw.origin.path, raw.origin.version)
    yield far
    if raw.origin.is_remote and _download(raw, far):
        yield far


def writable(raw: RawFile) -> list[str]:
    """Locations where an index of this file may be written, best first."""
    far = cached(raw.origin.path, raw.origin.version)
    return [far] if raw.origin.is_remote or on_network(raw.origin.path) else [beside(raw.origin.path), far]


def mode_at(path: str, raw: RawFile) -> int:
    """The mode of an index at a location: private in the cache folder, elsewhere that of its file without `x`."""
    if path == cached(raw.origin.path, raw.origin.version):
        return _PRIVATE
    return raw.origin.mode & 0o666 | 0o400


def check_replaceable(path: str, raw: RawFile) -> None:
    """Refuse to write an index over the checkpoint itself, or over a file that is not an index.

    Raises:
        FileInTheWay: the path leads to something else.
        TooManyOpenFiles: the process can open no file.

    Cost: a stat, and a read of a few bytes.
    """
    try:
        with open(path, "rb", opener=open_descriptor) as file:
            status, head = os.fstat(file.fileno()), file.read(_LMDB_MAGIC.stop)
            file.seek(-min(TAIL_MAGIC_FROM_END, status.st_size), os.SEEK_END)
            tail = file.read(len(TAIL_MAGIC))
    except OSError:  # it does not exist, or cannot be read: then writing reports why
        return
    own = any(file.identity == (status.st_dev, status.st_ino) for file in raw.source.files)
    # Either end is enough: a damaged index is replaced, as a sound one is.
    if own or (status.st_size and head[_LMDB_MAGIC] != _MAGIC and tail != TAIL_MAGIC):
        what = "the checkpoint itself" if own else "not an index"
        raise FileInTheWay(errno.EEXIST, f"{path} is {what}: give another path for the index, or index='auto'")


def is_of_version(sidecar: str | None, raw: RawFile) -> bool:
    """Whether the location of an index is that of this version of the object."""
    version = raw.origin.version
    return bool(version) and sidecar == cached(raw.origin.path, version)


def forget_others(sidecar: str, raw: RawFile) -> None:
    """Remove cached indexes of other versions of the same object."""
    if raw.origin.is_remote:
        import glob

        for other in glob.glob(f"{glob.escape(cached(raw.origin.path).removesuffix(SUFFIX))}*{SUFFIX}"):
            if other != sidecar:
                with contextlib.suppress(OSError):
                    os.unlink(other)


def beside(path: str) -> str:
    """The location beside the checkpoint."""
    return path + SUFFIX


def cached(path: str, version: str = "") -> str:
    """The location in the user's cache folder (`LAZYCKPT_CACHE`, else the platform's)."""
    folder = os.environ.get(CACHE_VARIABLE)
    if not folder:
        import platformdirs

        folder = os.path.join(platformdirs.user_cache_dir("lazyckpt", appauthor=False), "indexes")
    import hashlib

    names = [hashlib.blake2b(os.fsencode(text), digest_size=16).hexdigest() for text in (path, version) if text]
    return os.path.join(folder, f"{'.'.join(names)}{SUFFIX}")


def on_network(path: str) -> bool:
    """Whether a path is on a network file system, where LMDB should not write."""
    return file_system(os.path.dirname(path) or ".") in NETWORK_FILE_SYSTEMS


def _download(raw: RawFile, target: str) -> bool:
    """Download the index beside the object to `target`; return whether it exists and fits."""
    url = beside_url(raw.origin.path)
    if url is None:
        return False
    try:
        make_private_folders(os.path.dirname(target))
        with temporary(target) as made:
            download(url, made.path)
            store = Sidecar(made.path)
            store.close()
            if not raw.origin.matches(store.meta.fingerprint):
                log.info("the index %s is of an older or of another object", redact_url(url))
                return False
            made.commit(_PRIVATE)
            forget_others(target, raw)
            return True
    except (OSError, LazyCkptError, BadRecord) as error:
        log.info("no index at %s: %s", redact_url(url), error)
        return False


def publish(sidecar: str, url: str) -> str:
    """Upload the index of an object to the location beside it, where first opens find it.

    Returns:
        The URL of the index.

    Raises:
        ArgumentValueError: it is not a remote object, or has no location beside it.
        UnwritableFile: the store refuses it.

    Cost: uploads the whole index.
    """
    target = beside_url(url) if is_url(url) else None
    if target is None:
        raise ArgumentValueError(
            f"{redact_url(url)} has no remote location for its index: only objects at plain URLs do"
        )
    upload(sidecar, target)
    return target


def beside_url(url: str) -> str | None:
    """The URL of the index of an object; None for signed URLs and for files in archives."""
    return None if "?" in url or "://" in url.rpartition("::")[0] else url + SUFFIX
