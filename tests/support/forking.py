"""Children of the test's own process: what dies there dies for good."""

from __future__ import annotations

import os
import warnings


def forked(act):
    """Start a child that does something and ends, with 0 if it went well; its process id."""
    with warnings.catch_warnings():
        # Newer Pythons warn of a fork beside threads; those here are idle, and hold no lock.
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
    """Wait for a child: its exit code, or the signal that killed it as a negative number."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
