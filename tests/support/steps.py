"""Counts the steps of a call: the lines that it executes in some modules, so that a test can compare sizes."""

from __future__ import annotations

import sys


def steps_in(modules, call):
    """The lines that a call executes in these modules."""
    files, count = {module.__file__ for module in modules}, 0

    def trace(frame, event, argument):
        nonlocal count
        if frame.f_code.co_filename not in files:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count
