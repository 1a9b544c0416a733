"""Casts: numpy's values, counts of what is lost, and which values are cast."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from checkpoints import counting
from hypothesis import given
from hypothesis import strategies as st
from items import bytes_of

from lazyckpt.errors import ArgumentValueError, MissingName
from lazyckpt.index.selection import SomeNames
from lazyckpt.model.dtypes import DTYPES
from lazyckpt.writing import items
from lazyckpt.writing.adapters import item_of
from lazyckpt.writing.casting import CastReport, cast, casts_of, is_castable

FLOATS = ("Float16", "BFloat16", "Float32", "Float64")
NAMES = ["fc.weight", "fc.bias", "norm.gamma", "linear.weight", "moment1.fc.weight", "linear.fc.weight", "step"]


def casts(dtypes):
    """Types by name, of the names that have one."""
    names = SomeNames({name: ordinal for ordinal, name in enumerate(NAMES)})
    found = casts_of(dtypes, names, lambda name: name != "step")
    return {name: str(found.dtype_for(name)) for name in NAMES if found.dtype_for(name) is not None}


@pytest.mark.parametrize(("old", "new"), [*itertools.permutations(FLOATS, 2)])
def test_casts_are_numpys(old, new):
    """A cast equals `astype`, also for NaN, infinities and values out of range; what is lost is counted."""
    numbers = np.array([0, -0.0, 1.5, 1e-8, -1e-8, 1e-40, -1e-45, 1e-300, 65504, 7e4, 3e38, 1e39, -np.inf, np.nan])
    with np.errstate(all="ignore"):
        array = numbers.astype(DTYPES[old].numpy)
    calls = []
    item = cast(item_of("w", array), DTYPES[new], lambda *what: calls.append(what))
    with np.errstate(all="ignore"):
        expected = array.astype(DTYPES[new].numpy)
    lost = (int(np.isinf(expected).sum() - np.isinf(array).sum()), int((expected == 0).sum() - (array == 0).sum()))

    assert (item.nbytes, bytes_of(item)) == (expected.nbytes, expected.tobytes())
    assert calls == ([("w", *lost)] if any(lost) else [])


@given(st.lists(st.floats(width=32), max_size=50), st.integers(8, 64))
def test_casts_do_not_depend_on_the_pieces(numbers, piece):
    """A cast in pieces equals a cast of the whole, wherever it is cut, and counts the same."""
    array, step = np.array(numbers, "float32"), piece // 4 * 4
    data = memoryview(array.tobytes())
    content = (
        item_of("w", array)
        .contents[0]
        ._replace(pieces=lambda: (data[start : start + step] for start in range(0, data.nbytes, step)))
    )
    reports = [CastReport(), CastReport()]
    whole = cast(item_of("w", array), DTYPES["Float16"], reports[0].lost)
    cut = cast(items.tensor("w", content), DTYPES["Float16"], reports[1].lost)
    with np.errstate(all="ignore"):
        assert bytes_of(cut) == bytes_of(whole) == array.astype("float16").tobytes()
    assert reports[0] == reports[1]


def test_a_cast_to_the_same_type_is_nothing():
    """A cast to the same type returns the item itself."""
    item = item_of("w", counting((2,)))

    assert cast(item, DTYPES["Float32"], lambda *_: None) is item


def test_one_type_leaves_the_state_of_optimizers_alone():
    """A layer called `linear` is cast, the copy of a parameter under that prefix is not."""
    assert casts("Float16") == dict.fromkeys(["fc.weight", "fc.bias", "norm.gamma", "linear.weight"], "Float16")


@pytest.mark.parametrize(
    ("dtypes", "found"),
    [
        ({"fc": "BFloat16"}, {"fc.weight": "BFloat16", "fc.bias": "BFloat16"}),
        ({"*": "Float16"}, dict.fromkeys([*NAMES], "Float16")),
        ({"*weight": "Float16", "re:^moment": None, "linear*": None}, {"fc.weight": "Float16"}),
        ({"fc*": "Float16", "fc.bias": "float64"}, {"fc.weight": "Float16", "fc.bias": "Float64"}),
        ({None: "Float16", "norm*": None, "fc.bias": "Float64", "linear": None},
         {"fc.weight": "Float16", "fc.bias": "Float64"}),
        ({"moment1.": "Float16", None: "Float64", "linear": None, "norm": None, "fc": None},
         {"moment1.fc.weight": "Float16"}),
        ({None: None}, {}),
        ({}, {}),
    ],
)  # fmt: skip
def test_types_by_pattern(dtypes, found):
    """A pattern casts all that it matches, state too; the last one that matches a name counts."""
    assert casts(dtypes) == found


@pytest.mark.parametrize(
    ("dtypes", "error", "message"),
    [
        ({"none*": "Float16"}, MissingName, "no parameter matches 'none[*]'"),
        ({"step": "Float16"}, ArgumentValueError, "'step' matches no floating-point tensor"),
        ({"fc": "Int8"}, ArgumentValueError, "'Int8' is not a floating-point type"),
        ("Float8E4M3FN", ArgumentValueError, "is not a floating-point type"),
    ],
)
def test_requests_that_cast_nothing_are_refused(dtypes, error, message):
    """A pattern without a match, integers, and types that cannot be cast to."""
    with pytest.raises(error, match=message):
        casts(dtypes)


def test_floats_of_16_bits_and_more_are_cast():
    """Narrower floats need a scale, and integers are no floats."""
    assert sorted(name for name, dtype in DTYPES.items() if is_castable(dtype)) == sorted(FLOATS)


def test_a_report_has_few_names():
    """Each message has totals and three names; numbers of one are written as such."""
    report = CastReport(spared=1, some_spared=("step",))
    for number in range(5):
        report.lost(f"w{number}", 1000, int(number == 2))
        report.lost(f"w{number}", 1000, int(number == 2))

    assert list(report.messages()) == [
        "5,000 values are too large for the new type and became infinite ('w0', 'w1', 'w2' and 2 more)",
        "1 value is too small for the new type and became zero ('w2')",
        (
            "1 value of optimizer state not cast ('step'); to cast everything, give the type for the pattern '*' "
            "(dtype={'*': …}, --dtype '*=…')"
        ),
    ]
