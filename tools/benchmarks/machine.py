"""Where figures come from: the machine, the interpreter, and the versions of everything that was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from contextlib import suppress

PACKAGES = ("lazyckpt", "numpy", "lmdb", "cryptography", "ml_dtypes", "protobuf")


def described(peers: dict[str, str]) -> dict[str, object]:
    """The machine, as a report has it, with the versions of the peers that are installed."""
    from cryptography.hazmat.backends.openssl.backend import backend

    memory = _first("/proc/meminfo", "MemTotal")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _first("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "processors": os.cpu_count(),
        "memory_bytes": 1024 * int(memory.split()[0]) if memory else None,
        "openssl": backend.openssl_version_text(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "peers": peers,
    }


def _first(path: str, key: str) -> str:
    """The value of a key in a file of /proc; empty where there is no such file or key."""
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as lines:
        return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
    return ""
