"""Where sidecars live.

A sidecar stands beside its checkpoint as `<checkpoint>.lmdb`. Where the folder cannot be written, or lies on a network
file system (where LMDB should not write), it stands in the user's cache folder under a hash of the checkpoint's path.
"""

from __future__ import annotations

import os
from typing import Final

from lazyckpt.atomic import put
from lazyckpt.index.layout import SUFFIX
from lazyckpt.index.pages import Pages
from lazyckpt.sources.local import NETWORK_FILE_SYSTEMS, file_system

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
    """Whether a path lies where LMDB should not write, nor pages be read one by one."""
    return file_system(os.path.dirname(path) or ".") in NETWORK_FILE_SYSTEMS


def copy_to_cache(path: str, sidecar: str) -> str:
    """Bring a sidecar from a network file system into the cache folder; the copy's path.

    Raises:
        BadRecord: it is none (a device, say, which has no end).
        OSError: it cannot be copied.
    """
    Pages(sidecar)
    target = cached(path)
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    put(target, lambda private: _copy(sidecar, private), mode=0o600)
    return target


def _copy(source: str, target: str) -> None:
    import shutil

    shutil.copyfile(source, target)
