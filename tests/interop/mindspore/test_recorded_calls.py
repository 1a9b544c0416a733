"""Recorded calls that need MindSpore's own objects give the results of MindSpore 2.10.0."""

from __future__ import annotations

import numpy as np
import pytest
from mindspore_results import allowed, replayed

NUMPY_2 = "numpy 2:"  # with what a reason begins that holds for numpy 2 only
GROUPS = ("l", "args.net", "args.strict", "args.remove", "save")


@pytest.mark.parametrize("group", GROUPS)
def test_recorded_calls_have_the_recorded_outcome(group, tmp_path):
    """Binding and saving give MindSpore's result or exception type, but for the calls that are reviewed and listed."""
    failed, counted, output = replayed("replay_ms.py", group, tmp_path)
    expected = {
        call
        for call, reason in allowed("allowed_ms.txt").items()
        if call.startswith(group) and (not reason.startswith(NUMPY_2) or not np.__version__.startswith("1."))
    }

    assert counted is not None, output
    assert int(counted[1]) > 0
    assert int(counted[2]) == len(failed)
    assert failed == expected


def test_every_allowed_difference_has_a_reason():
    """A call is listed as different on purpose only with the purpose, and only if it is replayed here."""
    listed = allowed("allowed_ms.txt")

    assert all(listed.values())
    assert {call for call in listed if not call.startswith(GROUPS)} == set()
