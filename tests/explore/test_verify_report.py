"""`Verification`: a line for each check, and a verdict that claims no more."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.display import STYLE
from lazyckpt.explore.verify_report import OUTCOMES, Check, Verification

PASSED = Check("headers", "passed", "8 parameters")
UNCHECKED = Check("contents", "unchecked", "there is no checksum")
CHECKS = st.lists(st.builds(Check, st.text("abc", min_size=1), st.sampled_from(list(OUTCOMES)), st.text()))


def report(*checks):
    """A report with these checks."""
    return Verification("net.ckpt", 4096, 0.25, checks)


@given(CHECKS)
def test_a_file_is_intact_unless_a_check_failed(checks):
    """A file is intact if no check failed; unchecked parts do not count."""
    made = report(*checks)

    assert made.intact is ("failed" not in [check.outcome for check in checks])
    assert json.loads(json.dumps(made.to_dict()))["intact"] is made.intact


@pytest.mark.parametrize(
    ("checks", "verdict"),
    [
        ([PASSED], "intact"),
        ([PASSED, UNCHECKED], "intact, as far as it can be checked"),
        ([PASSED, UNCHECKED._replace(name="index")], "intact"),
        ([Check("opened", "failed", "no key")], "cannot be checked"),
        ([Check("crc", "failed", ""), UNCHECKED, Check("digests", "failed", "")], "DAMAGED (crc, digests)"),
    ],
)
def test_the_verdict_claims_what_was_checked(checks, verdict):
    """The verdict names failed checks, and says so if the contents could not be checked."""
    assert report(*checks).summary() == f"net.ckpt: {verdict}; 4.0 KiB in 0.25 s"


@given(CHECKS)
def test_each_check_is_one_printable_line(checks):
    """Each check is one printable line and one HTML row, with its detail escaped."""
    made = report(*checks)
    lines, page = str(made).split("\n"), made._repr_html_()
    assert page.startswith(STYLE)
    page = page.removeprefix(STYLE)

    assert [line.split()[:2] for line in lines[1:]] == [
        [check.name, OUTCOMES[check.outcome].split()[0]] for check in checks
    ]
    assert all(line.isprintable() for line in [*lines, page])
    assert page.count("<tr>") == 1 + len(checks)
    assert page.count("<td") == 3 * len(checks)
    assert page.count("<") == 22 + 8 * len(checks)


def test_outcomes_stand_below_each_other():
    """Names and outcomes are aligned in columns, without trailing spaces."""
    lines = str(report(PASSED, Check("digests", "failed", ""), UNCHECKED)).splitlines()

    assert lines[1:] == [
        "  headers   ok           8 parameters",
        "  digests   FAILED",
        "  contents  not checked  there is no checksum",
    ]
