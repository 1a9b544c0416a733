"""Forked children of the test process, for tests in which a process dies."""

from __future__ import annotations

import os
import warnings


def forked(act):
    """Fork a child that calls `act` and exits with 0 on success; returns its process id."""
    with warnings.catch_warnings():
        # Newer Pythons warn about a fork in a process with threads; the threads here are idle and hold no lock.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    code = 1
    try:
        act()
        code = 0
    finally:
        os._exit(code)


def ended(child):
    """Wait for a child. Returns its exit code, or the negative number of the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
