"""Moments merged from any pieces equal numpy's for the whole."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lazyckpt.statistics import moments
from lazyckpt.statistics.moments import NOTHING, measure, measure_each, together

DTYPES = ("?", "<i1", "<u1", "<i2", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8")
ODD = (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.float4_e2m1fn)


def halves(array, cut):
    """An array in two pieces."""
    flat = array.reshape(-1)
    return [flat[:cut], flat[cut:]]


@st.composite
def some_numbers(draw):
    """Numbers of any dtype, NaN and infinities included, with finite squares."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    bounds = {"min_value": -60_000, "max_value": 60_000} if dtype.kind == "f" else {}
    elements = arrays.from_dtype(dtype, **bounds)
    if dtype.kind == "f":
        elements |= st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0])
    return draw(arrays.arrays(dtype, st.integers(0, 40), elements=elements))


@given(some_numbers(), st.integers(0, 40))
def test_pieces_give_what_numpy_gives_for_the_whole(array, cut):
    """Counts and bounds are exact; mean, deviation and norm are those of the finite numbers in float64."""
    found = measure(halves(array, cut))
    wide = array.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    real = array[~np.isnan(array)]

    assert (found.count, found.finite, found.zeros) == (array.size, finite.size, int((array == 0).sum()))
    assert (found.nan, found.inf) == (int(np.isnan(wide).sum()), int(np.isinf(wide).sum()))
    assert (found.low, found.high) == ((real.min(), real.max()) if real.size else (None, None))
    if finite.size:
        scale = np.abs(finite).max() * 1e-9 + 1e-300
        assert found.mean == pytest.approx(finite.mean(), rel=1e-9, abs=scale)
        assert found.std == pytest.approx(finite.std(), rel=1e-6, abs=scale)
        assert found.norm == pytest.approx(np.linalg.norm(finite), rel=1e-9)


def bits(found):
    """Moments as text with every bit, signs of zeros and NaN included."""
    return [(each.hex() if isinstance(each, float) else repr(each)) for each in found]


@given(st.data())
def test_each_of_many_is_measured_as_if_alone(data):
    """Each result is equal bit for bit, with NaN among the numbers."""
    dtype = np.dtype(data.draw(st.sampled_from([*DTYPES, "<c8", *ODD])))
    shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 5), st.integers(1, 40)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = (rng.standard_normal(shape) * 100).astype(dtype)
    if dtype.kind in "fc":
        flat = values.reshape(-1)
        odd = [math.nan, math.inf, -math.inf, 0.0, -0.0]
        flat[rng.integers(0, flat.size, flat.size // 7)] = rng.choice(odd, flat.size // 7)

    assert list(map(bits, measure_each(values))) == [bits(measure([value])) for value in values]


@pytest.mark.parametrize("size", [1, 7, 8, 255, 256, 4_095, 4_096, 4_097, 8_193, 16_000])
@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<i1"])
def test_each_of_many_is_measured_as_if_alone_whatever_its_size(size, dtype):
    """Sums are computed in the same order, so that every bit is equal."""
    values = (np.random.default_rng(size).standard_normal((40, size)) * 50).astype(dtype)

    assert list(map(bits, measure_each(values))) == [bits(measure([value])) for value in values]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.integers(0, 30), st.integers(0, 30))
def test_it_does_not_matter_how_parts_are_put_together(numbers, first, second):
    """Three parts merged from the left equal those merged from the right."""
    a, b, c = (
        (measure([part]) for part in np.split(np.array(numbers), sorted({first, second})))
        if (first != second)
        else (measure([np.array(numbers)]), NOTHING, NOTHING)
    )
    left, right = together(together(a, b), c), together(a, together(b, c))

    assert left[:4] == right[:4]
    assert left.mean == pytest.approx(right.mean, rel=1e-9, abs=1e-6)
    assert left.std == pytest.approx(right.std, rel=1e-6, abs=1e-5)


def test_a_large_mean_costs_no_digits():
    """For numbers around a billion, in many blocks, the deviation is right to nine digits."""
    small = np.random.default_rng(5).standard_normal(3 * moments._BLOCK + 17)
    shifted = small + 1e9

    assert measure([shifted]).std == pytest.approx(float(np.std(shifted - 1e9)), rel=1e-9)


def test_large_integers_stay_exact():
    """Bounds that float64 cannot hold are exact to the last digit."""
    found = measure([np.array([-(2**63), 2**63 - 1], "<i8")]), measure([np.array([1, 2**64 - 1], "<u8")])

    assert [(one.low, one.high) for one in found] == [(-(2**63), 2**63 - 1), (1, 2**64 - 1)]


@pytest.mark.parametrize("dtype", ODD)
def test_narrow_floats_are_measured_in_float64(dtype):
    """Floats that numpy lacks are widened without loss."""
    array = np.array([0, 0.5, -1.5, 2, 3], np.float32).astype(dtype)
    wide = array.astype(np.float64)
    found = measure(halves(array, 2))

    assert (found.low, found.high, found.zeros) == (-1.5, 3.0, 1)
    assert (found.mean, found.std) == pytest.approx((wide.mean(), wide.std()))


def test_complex_numbers():
    """Complex numbers have a mean, a deviation and a norm, and no order."""
    array = np.array([1 + 2j, -3, 0, complex(math.nan, 1), complex(0, math.inf)], "<c8")
    found, finite = measure(halves(array, 2)), array[:3].astype(np.complex128)

    assert (found.low, found.high, found.zeros, found.nan, found.inf) == (None, None, 1, 1, 1)
    assert found.mean == pytest.approx(finite.mean())
    assert (found.std, found.norm) == pytest.approx((finite.std(), np.linalg.norm(finite)))


def test_an_infinity_is_a_bound_and_no_part_of_the_mean():
    """Minimum and maximum ignore only NaN; the mean ignores infinities, too."""
    found = measure([np.array([1, math.nan, math.inf, 3], "<f4")])

    assert (found.low, found.high, found.mean, found.nan, found.inf) == (1, math.inf, 2, 1, 1)


def test_nothing_but_nan():
    """Without numbers there are neither bounds nor a mean."""
    found = measure([np.full(3, math.nan)])

    assert (found.low, found.high, found.finite, found.nan, math.isnan(found.std)) == (None, None, 0, 3, True)


def test_nothing():
    """Without numbers the statistics are empty."""
    assert measure([]) == measure([np.zeros((0, 3))]) == NOTHING
