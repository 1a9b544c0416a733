"""The difference of two values read in pieces equals numpy's for the whole."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.explore import compare as module
from lazyckpt.explore.compare import Difference, compare
from lazyckpt.writing.items import array_content

DTYPES = ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", ml_dtypes.bfloat16)


def in_pieces(array, size):
    """An array's content, in pieces of `size` elements."""
    whole = array_content(array)
    step = size * array.dtype.itemsize

    def pieces():
        data = b"".join(whole.pieces())
        return (memoryview(data)[start : start + step] for start in range(0, len(data), step))

    return whole._replace(pieces=pieces)


def compared(one, two):
    """The difference of two arrays."""
    return compare(array_content(np.asarray(one)), array_content(np.asarray(two)))


@st.composite
def pairs(draw):
    """Two arrays of one shape and dtype of any bits, some elements of the second equal to the first's."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    count = draw(st.integers(1, 40))
    raw = st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize)
    one = np.frombuffer(draw(raw), np.uint8)
    two = np.frombuffer(draw(raw), np.uint8)
    if dtype == "?":
        one, two = one & 1, two & 1
    mask = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    one, two = one.view(dtype), two.view(dtype)
    return one, np.where(mask, one, two).astype(dtype)


@given(pairs(), st.integers(1, 7), st.integers(1, 7), st.integers(1, 9))
def test_the_figures_are_those_of_numpy(pair, left, right, step):
    """The figures equal numpy's for any bits, however both sides are cut into pieces."""
    one, two = pair
    module_step, module.STEP = module.STEP, step
    try:
        found = compare(in_pieces(one, left), in_pieces(two, right))
    finally:
        module.STEP = module_step
    bits = f"u{one.dtype.itemsize}"
    differing = int((one.view(bits) != two.view(bits)).sum())
    assert (found is None) == (differing == 0)
    if found is None:
        return
    wide = np.clongdouble if one.dtype.kind == "c" else np.longdouble
    with np.errstate(invalid="ignore"):  # NaNs that signal are made into others
        a, b = (side.astype(np.complex128 if side.dtype.kind == "c" else np.float64) for side in pair)
    finite = np.isfinite(a) & np.isfinite(b)
    nonfinite = int(((one.view(bits) != two.view(bits)) & ~finite).sum())
    a, b = a[finite].astype(wide), b[finite].astype(wide)
    norms = [np.sqrt((np.abs(x) ** 2).sum()) for x in (a, b, a - b)]

    assert (found.differing, found.size, found.nonfinite) == (differing, one.size, nonfinite)
    if not a.size:
        assert found.max_abs is None
    elif one.dtype.kind in "biu":
        assert found.max_abs == max(abs(int(x) - int(y)) for x, y in zip(one, two, strict=True))
    else:
        with np.errstate(over="ignore"):
            assert found.max_abs == pytest.approx(float(np.abs(a - b).max()), rel=1e-12)
    if norms[0]:
        assert found.relative_l2 == pytest.approx(float(norms[2] / norms[0]), rel=1e-9)
    if norms[0] and norms[1]:
        assert found.cosine == pytest.approx(float((a.conj() * b).sum().real / norms[0] / norms[1]), abs=1e-9)


def test_zeros_do_not_hide_what_is_tiny():
    """Elements too small to be squared count beside zeros as they do without them."""
    tiny = np.array([0, 7.29112202e-304])
    found = compare(in_pieces(tiny, 1), in_pieces(np.zeros(2), 1))
    alike = compare(in_pieces(np.append(tiny, 8e-317), 1), in_pieces(np.append(tiny, 0), 1))

    assert found.relative_l2 == 1
    assert alike.cosine == 1


@pytest.mark.parametrize("power", [-1070, -700, -299, 0, 299, 700, 1020])
@pytest.mark.parametrize("other", [-1070, -700, -299, 0, 299, 700, 1020])
def test_figures_of_numbers_of_any_size(power, other):
    """Figures are right where squares, or the square of a ratio, exceed a double."""
    found = compared(np.ldexp([2.0, 0], power), np.ldexp([-1.0, 0], other))

    assert found.cosine == -1
    assert found.relative_l2 == pytest.approx(1 + 2.0 ** min(other - power - 1, 1023), rel=1e-12) or (
        other - power > 1023 and found.relative_l2 > 1e307
    )


def test_nans_of_the_same_bits_are_equal():
    """A value is equal to itself, NaNs included."""
    value = np.array([np.nan, 1, np.inf], "f4")

    assert compared(value, value.copy()) is None


def test_what_is_no_number_is_counted_and_not_measured():
    """NaN beside a number, or two different infinities, are counted as different; the figures cover the rest."""
    found = compared(np.array([np.nan, np.inf, 2, 0], "f4"), np.array([1, -np.inf, 3, 0], "f4"))

    assert found == Difference(3, 4, 1.0, 0.5, 1.0, 2)


def test_signs_of_zero_are_bits():
    """0.0 and -0.0 differ in their bits, by the number zero."""
    assert compared(np.zeros(3, "f4"), -np.zeros(3, "f4")) == Difference(3, 3, 0.0, 0.0, None, 0)


def test_integers_are_subtracted_exactly():
    """Integers that doubles cannot distinguish, or that overflow int64, are subtracted exactly."""
    low, high = np.iinfo("i8").min, np.iinfo("i8").max

    assert compared(np.array([high]), np.array([high - 1])).max_abs == 1
    assert compared(np.array([low]), np.array([high])).max_abs == 2**64 - 1
    assert compared(np.array([2**64 - 1], "u8"), np.array([0], "u8")).max_abs == 2**64 - 1


@pytest.mark.parametrize("scale", [1e300, 1e-300, 1.0])
def test_very_large_and_very_small_numbers_stay_in_range(scale):
    """Figures stay finite although squares would not."""
    found = compared(np.array([3.0, 4.0]) * scale, np.array([3.0, 4.5]) * scale)

    assert (found.relative_l2, found.max_abs) == (pytest.approx(0.1), pytest.approx(0.5 * scale))


def test_a_difference_that_no_double_holds_is_infinite():
    """A difference that no double holds is infinite, and its norm is still right."""
    found = compared(np.array([1.5e308]), np.array([-1.5e308]))

    assert (found.max_abs, found.relative_l2, found.cosine) == (math.inf, 2.0, -1.0)


def test_values_of_two_types_are_compared_as_numbers():
    """After a conversion, unchanged values are equal and changed ones are reported."""
    exact, rounded = np.array([0.5, np.nan, 3], "f4"), np.array([0.1, 0.5, 3], "f4")

    assert compared(exact, exact.astype("f2")) is None
    assert compared(rounded, rounded.astype("f2")).differing == 1
    assert compared(np.array([1, 2**63], "u8"), np.array([1, 5], "i8")).max_abs == 2.0**63 - 5


def test_packed_elements_are_compared_one_by_one():
    """Four-bit elements, two to a byte, are compared one by one."""
    one, two = (np.array(values, ml_dtypes.float4_e2m1fn) for values in ([1, 2, 3, 4], [1, 2, 3, 6]))

    assert compared(one, two) == Difference(
        1, 4, 2.0, pytest.approx(2 / 30**0.5), pytest.approx(38 / (30 * 50) ** 0.5), 0
    )


def test_equal_values_are_read_once_and_the_rest_twice():
    """The first pass ends at the first step that differs."""
    asked = []

    def counted(array):
        content = in_pieces(array, 10)
        return content._replace(pieces=lambda: (asked.append(1) or piece for piece in content.pieces()))

    value = np.arange(100.0)
    compare(counted(value), counted(value))
    once = len(asked)
    compare(counted(value), counted(value + 1))

    assert (once, len(asked) - once) == (20, 22)
