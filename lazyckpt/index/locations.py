"""Where sidecars live.

A sidecar stands beside its checkpoint as `<checkpoint>.lmdb`. Where the folder cannot be written, or lies on a network
file system (where LMDB should not write; a sidecar that was put there is read all the same), it stands in the user's
cache folder under a hash of the checkpoint's path; so do those of objects elsewhere, under hashes of the URL and of the
object's version. What stands beside an object is brought there, once.
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
from lazyckpt.runtime.atomic_write import temporary
from lazyckpt.sources import Opened
from lazyckpt.sources.local import NETWORK_FILE_SYSTEMS, file_system
from lazyckpt.sources.paths import download, is_url, shown, upload

CACHE_VARIABLE: Final = "LAZYCKPT_CACHE"
_MAGIC: Final = (0xBEEFC0DE).to_bytes(4, sys.byteorder)  # LMDB's, in the first of its meta pages
_LMDB_MAGIC: Final = slice(16, 20)


def known(opened: Opened) -> Iterator[str]:
    """Where an index of this file may stand, the likeliest place first. Some are brought here only when asked for."""
    if not opened.is_remote:
        yield beside(opened.path)
    far = cached(opened.path, opened.origin.version)
    yield far
    if opened.is_remote and _brought(opened, far):
        yield far


def writable(opened: Opened) -> list[str]:
    """Where an index of this file may be put."""
    far = cached(opened.path, opened.origin.version)
    return [far] if opened.is_remote or on_network(opened.path) else [beside(opened.path), far]


def check_replaceable(path: str, opened: Opened) -> None:
    """Refuse to put the index of a file over that file, or over another one that is no index.

    Raises:
        FileInTheWay: there is something else at the path.

    Cost: a stat, and a few bytes read.
    """
    try:
        with open(path, "rb") as file:
            status, head = os.fstat(file.fileno()), file.read(_LMDB_MAGIC.stop)
            file.seek(-min(TAIL_MAGIC_FROM_END, status.st_size), os.SEEK_END)
            tail = file.read(len(TAIL_MAGIC))
    except OSError:  # nothing is there, or nothing that can be read: writing says why
        return
    own = any(file.identity == (status.st_dev, status.st_ino) for file in opened.source.files)
    # Either end is enough: a damaged index is replaced, as a sound one is.
    if own or (status.st_size and head[_LMDB_MAGIC] != _MAGIC and tail != TAIL_MAGIC):
        what = "the checkpoint itself" if own else "no index"
        raise FileInTheWay(errno.EEXIST, f"{path} is {what}: give another path for the index, or index='auto'")


def is_known(sidecar: str | None, opened: Opened) -> bool:
    """Whether an index is this very file's because of the place where it stands."""
    version = opened.origin.version
    return bool(version) and sidecar == cached(opened.path, version)


def forget_others(sidecar: str, opened: Opened) -> None:
    """Remove the indexes of other versions of an object, when there is one of this version."""
    if opened.is_remote:
        import glob

        for other in glob.glob(f"{glob.escape(cached(opened.path).removesuffix(SUFFIX))}*{SUFFIX}"):
            if other != sidecar:
                with contextlib.suppress(OSError):
                    os.unlink(other)


def beside(path: str) -> str:
    """The sidecar's place beside the checkpoint."""
    return path + SUFFIX


def cached(path: str, version: str = "") -> str:
    """The sidecar's place in the user's cache folder (`LAZYCKPT_CACHE`, else the platform's)."""
    folder = os.environ.get(CACHE_VARIABLE)
    if not folder:
        import platformdirs

        folder = os.path.join(platformdirs.user_cache_dir("lazyckpt", appauthor=False), "indexes")
    import hashlib

    names = [hashlib.blake2b(os.fsencode(text), digest_size=16).hexdigest() for text in (path, version) if text]
    return os.path.join(folder, f"{'.'.join(names)}{SUFFIX}")


def on_network(path: str) -> bool:
    """Whether a path lies where LMDB should not write."""
    return file_system(os.path.dirname(path) or ".") in NETWORK_FILE_SYSTEMS


def _brought(opened: Opened, target: str) -> bool:
    """Whether an index stood beside an object, was this object's, and is at `target` now."""
    url = beside_url(opened.path)
    if url is None:
        return False
    try:
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        with temporary(target) as made:
            download(url, made.path)
            store = Sidecar(made.path)
            store.close()
            if not opened.origin.bears(store.meta.fingerprint):
                log.info("the index %s is of an older or of another object", shown(url))
                return False
            made.commit(0o600)
            forget_others(target, opened)
            return True
    except (OSError, LazyCkptError, BadRecord) as error:
        log.info("no index at %s: %s", shown(url), error)
        return False


def publish(sidecar: str, url: str) -> str:
    """Put the index of an object beside it, where everybody's first open finds it.

    Returns:
        The URL of the index.

    Raises:
        ArgumentValueError: it is no object elsewhere, or there is no place beside it.
        UnwritableFile: its store does not take it.

    Cost: the index is sent whole.
    """
    target = beside_url(url) if is_url(url) else None
    if target is None:
        raise ArgumentValueError(f"{shown(url)} has no place elsewhere for its index: only objects at plain URLs do")
    upload(sidecar, target)
    return target


def beside_url(url: str) -> str | None:
    """Where the index of an object stands, or None: of signed addresses and of files in archives nowhere."""
    return None if "?" in url or "://" in url.rpartition("::")[0] else url + SUFFIX
