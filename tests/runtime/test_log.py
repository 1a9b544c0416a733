"""Log messages: one logger, the caller's location, no import without a message."""

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
    """A message has the logger `lazyckpt`, its level and the location of the caller."""
    caplog.set_level(logging.DEBUG, "lazyckpt")
    say("%s has %d bytes", "net.ckpt", 5)
    (record,) = caplog.records

    assert (record.name, record.levelno, record.getMessage()) == ("lazyckpt", level, "net.ckpt has 5 bytes")
    assert record.pathname == __file__


def test_an_exception_is_logged_with_its_traceback(caplog):
    """`exception` logs the traceback of the current exception."""
    fault = ZeroDivisionError("where it was")
    try:
        raise fault
    except ZeroDivisionError:
        log.exception("a task failed")

    assert caplog.records[0].exc_info[1] is fault


def test_importing_the_package_does_not_import_logging():
    """`import lazyckpt` does not import `logging`."""
    script = "import sys; import lazyckpt; from lazyckpt.runtime import log; print('logging' in sys.modules)"

    assert subprocess.check_output([sys.executable, "-c", script], encoding="utf-8") == "False\n"


def test_warnings_can_be_passed_to_a_function(caplog):
    """A command prints warnings itself; afterwards they are logged again."""
    shown = []
    with log.warnings_as(shown.append):
        log.warning("%s has %d bytes", "net.ckpt", 5)
    log.warning("logged")

    assert (shown, caplog.messages) == (["net.ckpt has 5 bytes"], ["logged"])
