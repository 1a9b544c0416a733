"""A full disk: a tmpfs of a few hundred KiB in a mount namespace of a forked child.

The mount disappears with the child and is invisible to other processes. It requires Linux and the right to mount:
either root, or unprivileged user namespaces.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import sys

import pytest
from forking import ended, forked

_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS
_NEW_USER = 0x10000000  # CLONE_NEWUSER
_PRIVATE = 1 << 18 | 1 << 14  # MS_PRIVATE | MS_REC
_PAGE = 4096  # the allocation unit of a tmpfs
_FILLING = ".filling"


def on_small_disk(folder, act, size=2**20):
    """Call `act(folder)` in a child that has a disk of `size` bytes mounted on `folder`.

    Raises:
        Skipped: mounting is not permitted; the reason has the error of the system.
    """
    answer = f"{folder}.answer"

    def child():
        try:
            _mount(str(folder), size)
        except OSError as error:
            told = ("denied", f"{error.strerror} ({error.filename})")
        else:
            told = ("done", act(folder))
        with open(answer, "wb") as file:
            pickle.dump(told, file)

    if sys.platform != "linux":
        pytest.skip("a small disk is a Linux tmpfs")
    assert ended(forked(child)) == 0
    with open(answer, "rb") as file:
        how, told = pickle.load(file)
    os.unlink(answer)
    if how == "denied":
        pytest.skip(f"no small disk can be mounted here, neither as root nor in a user namespace: {told}")
    return told


def leave(folder, free):
    """Fill a small disk until only this many bytes are free."""
    place = os.path.join(folder, _FILLING)
    while True:
        status = os.statvfs(folder)
        over = status.f_bavail * status.f_frsize - free
        if over < _PAGE:
            return
        with open(place, "ab", buffering=0) as file:
            file.write(bytes(over // _PAGE * _PAGE))


def names_on(folder):
    """The names of the files on a small disk, except the one that fills it."""
    return sorted(name for name in os.listdir(folder) if name != _FILLING)


def _mount(folder, size):
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name, *arguments):
        if getattr(libc, name)(*arguments) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)

    try:
        call("unshare", _NEW_MOUNTS)
    except OSError:
        call("unshare", _NEW_MOUNTS | _NEW_USER)
        for file, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            with open(f"/proc/self/{file}", "w") as opened:
                opened.write(text)
    call("mount", b"none", b"/", None, ctypes.c_ulong(_PRIVATE), None)
    call("mount", b"tmpfs", os.fsencode(folder), b"tmpfs", ctypes.c_ulong(0), f"size={size}".encode())
