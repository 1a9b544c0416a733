"""Every recorded call that needs MindSpore's own objects gives what MindSpore 2.10.0 gave."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from mindspore_results import GOLDEN, allowed

NUMPY_2 = "numpy 2:"  # with what a reason begins that holds for numpy 2 only
GROUPS = ("l", "args.net", "args.strict", "args.remove")


@pytest.mark.parametrize("group", GROUPS)
def test_recorded_calls_have_the_recorded_outcome(group, tmp_path):
    """Binding gives MindSpore's result or exception type, but for the calls that are reviewed and listed."""
    replay = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(GOLDEN / "replay_ms.py"), "--only", group],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "CKPT_IMPL": "lazyckpt", "TMPDIR": str(tmp_path)},
        check=False,
    )
    failed = {line.split()[1] for line in replay.stdout.splitlines() if line.startswith("FAIL ")}
    counted = re.search(r"(\d+) passed, (\d+) failed", replay.stdout)
    expected = {
        call
        for call, reason in allowed("allowed_ms.txt").items()
        if call.startswith(group) and (not reason.startswith(NUMPY_2) or not np.__version__.startswith("1."))
    }

    assert counted is not None, replay.stderr
    assert int(counted[1]) > 0
    assert int(counted[2]) == len(failed)
    assert failed == expected


def test_every_allowed_difference_has_a_reason():
    """A call is listed as different on purpose only with the purpose, and only if it is replayed here."""
    listed = allowed("allowed_ms.txt")

    assert all(listed.values())
    assert {call for call in listed if not call.startswith(GROUPS)} == set()
