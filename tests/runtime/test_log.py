"""What the package says in Python's log: under one name, from where it is said, at no cost if nothing is."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from lazyckpt.runtime import log


@pytest.mark.parametrize(
    ("say", "level"), [(log.info, logging.INFO), (log.warning, logging.WARNING), (log.exception, logging.ERROR)]
)
def test_a_message_is_logged_as_lazyckpts(say, level, caplog):
    """At its level, put together by the log, with the place of whoever said it."""
    caplog.set_level(logging.DEBUG, "lazyckpt")
    say("%s has %d bytes", "net.ckpt", 5)
    (record,) = caplog.records

    assert (record.name, record.levelno, record.getMessage()) == ("lazyckpt", level, "net.ckpt has 5 bytes")
    assert record.pathname == __file__


def test_what_nobody_could_catch_is_logged_with_its_traceback(caplog):
    """That of the exception that is being handled."""
    fault = ZeroDivisionError("where it was")
    try:
        raise fault
    except ZeroDivisionError:
        log.exception("a task failed")

    assert caplog.records[0].exc_info[1] is fault


def test_a_program_that_hears_nothing_imports_no_log():
    """Opening a checkpoint must not pay for it."""
    script = "import sys; import lazyckpt; from lazyckpt.runtime import log; print('logging' in sys.modules)"

    assert subprocess.check_output([sys.executable, "-c", script], encoding="utf-8") == "False\n"
