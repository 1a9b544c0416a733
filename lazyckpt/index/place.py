"""Where sidecars live, and how a file is put in its place whole or not at all.

A sidecar stands beside its checkpoint as `<checkpoint>.lmdb`. Where the folder cannot be written, or lies on a network
file system (where mapping LMDB is unsafe), it stands in the user's cache folder under a hash of the checkpoint's path.

A file is built under a private name in the folder it goes to, synced, and renamed. The private name is the same each
time and locked while it is being written, so what a killed builder left is taken over by the next one; a second
builder at the same time finds it locked and takes a name of its own. Both end with a whole file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Final

from lazyckpt.index.layout import SUFFIX
from lazyckpt.sources.local import NETWORK_FILE_SYSTEMS, file_system

try:
    import fcntl
except ImportError:  # Windows: every builder takes a name of its own
    fcntl = None  # type: ignore[assignment]

CACHE_VARIABLE: Final = "LAZYCKPT_CACHE"


def beside(path: str) -> str:
    """The sidecar's place beside the checkpoint."""
    return path + SUFFIX


def cached(path: str) -> str:
    """The sidecar's place in the user's cache folder (`LAZYCKPT_CACHE`, else the platform's)."""
    folder = os.environ.get(CACHE_VARIABLE)
    if not folder:
        import platformdirs

        folder = os.path.join(platformdirs.user_cache_dir("lazyckpt", appauthor=False), "indexes")
    import hashlib

    name = hashlib.blake2b(os.fsencode(path), digest_size=16).hexdigest()
    return os.path.join(folder, f"{name}{SUFFIX}")


def on_network(path: str) -> bool:
    """Whether a path lies where LMDB should not be mapped."""
    return file_system(os.path.dirname(path) or ".") in NETWORK_FILE_SYSTEMS


def copy_to_cache(path: str, sidecar: str) -> str:
    """Bring a sidecar from a network file system into the cache folder; the copy's path."""
    target = cached(path)
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    put(target, lambda private: _copy(sidecar, private), mode=0o600)
    return target


def put(path: str, fill: Callable[[str], object], *, mode: int) -> None:
    """Make the file at `path` by letting `fill` write a private file, which is then renamed into place.

    Whatever was there before stays until the rename, and for good if anything fails.

    Raises:
        OSError: the folder cannot be written, or is full.
        Exception: what `fill` raises; nothing is left behind.
    """
    with _private(path) as private:
        fill(private)
        os.chmod(private, mode)
        os.replace(private, path)


def _copy(source: str, target: str) -> None:
    import shutil

    shutil.copyfile(source, target)


@contextlib.contextmanager
def _private(path: str) -> Iterator[str]:
    folder, name = os.path.split(path)
    usual = os.path.join(folder, f".{name}.tmp")
    descriptor = _lock(usual)
    private = usual
    if descriptor < 0:
        private = os.path.join(folder, f".{name}.{os.urandom(8).hex()}.tmp")
        descriptor = os.open(private, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        yield private
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(private)
        raise
    finally:
        os.close(descriptor)


def _lock(path: str) -> int:
    """An empty file at `path` that only this builder writes, or -1 when another is at it."""
    if fcntl is None:
        return -1
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The other builder may have renamed the file away between the open and the lock.
        if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
            os.ftruncate(descriptor, 0)
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return -1
