"""A value in a few numbers."""

from __future__ import annotations

import numpy as np
import pytest

from lazyckpt.explore import summary


def test_it_agrees_with_numpy(monkeypatch):
    """Taken in pieces, the numbers are those that numpy gives for the whole."""
    monkeypatch.setattr(summary, "_PIECE", 7)
    array = np.random.default_rng(3).standard_normal((9, 11)).astype(np.float32)
    wide = array.astype(np.float64)
    expected = {"min": wide.min(), "max": wide.max(), "mean": wide.mean(), "std": wide.std()}

    assert summary.summarise(array) == pytest.approx({**expected, "zeros": 0, "nan": 0, "inf": 0})


def test_it_counts_what_is_no_number():
    """Zeros, NaNs and infinities are counted, and a NaN shows in the minimum."""
    found = summary.summarise(np.array([0, np.nan, np.inf, -np.inf, 0], np.float16))

    assert (found["zeros"], found["nan"], found["inf"], np.isnan(found["min"])) == (2, 1, 2, True)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float64"])
def test_every_kind_of_number(dtype):
    """Flags and integers are numbers too."""
    assert summary.summarise(np.array([0, 1, 1, 1], dtype))["mean"] == 0.75


def test_nothing():
    """An empty value has no numbers."""
    assert summary.summarise(np.zeros((0, 3))) == {}
