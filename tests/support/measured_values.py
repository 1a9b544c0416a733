"""Small values for statistics: NaNs, infinities, booleans and an empty array."""

from __future__ import annotations

import math

import numpy as np

VALUES = {
    "a": np.array([[1, -2], [0, 5]], "float32"),
    "b": np.array([math.nan, math.inf, 0, 2], "float16"),
    "flags": np.array([True, False, True]),
    "empty": np.zeros((0,), "float32"),
}
