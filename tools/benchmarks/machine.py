"""Where figures come from: the machine, the interpreter, and the versions of everything that was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time

PACKAGES = ("lazyckpt", "numpy", "lmdb", "cryptography", "ml_dtypes", "protobuf")


def described(peers: dict[str, str]) -> dict[str, object]:
    """The machine, as the report has it.

    Args:
        peers: versions of the peers that are there.
    """
    from cryptography.hazmat.backends.openssl.backend import backend

    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _told("/proc/cpuinfo", "model name", ":") or platform.processor() or platform.machine(),
        "processors": os.cpu_count(),
        "memory_bytes": _memory(),
        "openssl": backend.openssl_version_text(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "peers": peers,
    }


def _memory() -> int | None:
    told = _told("/proc/meminfo", "MemTotal", ":")
    return 1024 * int(told.split()[0]) if told else None


def _told(path: str, key: str, sign: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return next((line.partition(sign)[2].strip() for line in file if line.startswith(key)), None)
    except OSError:
        return None
