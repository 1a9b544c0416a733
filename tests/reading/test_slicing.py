"""A plan of an index expression has exactly the bytes of numpy's answer."""

from __future__ import annotations

import array
import itertools
import math
import tracemalloc

import numpy as np
import pytest
from checkpoints import pattern
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from index_keys import ArrayLike, any_key, outcome

from lazyckpt.reading.slicing import plan

HUGE = 2**40
_shapes = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=6)
_dtypes = st.sampled_from(["u1", "<f2", "<i4", "<f8"])
_int_types = st.sampled_from(["int8", "uint8", "int16", "int64", "uint64"])


def array_of(shape, dtype="<i4"):
    """An array of distinct elements."""
    return np.frombuffer(pattern(math.prod(shape) * np.dtype(dtype).itemsize), dtype).reshape(shape)


def starts_of(planned):
    """The offsets of all runs of a plan, in its order."""
    return [planned.start + sum(int(step) for step in steps) for steps in itertools.product(*planned.axes)]


def assembled(array, key):
    """The answer assembled from the planned bytes, and their count; (None, 0) without a plan."""
    planned = plan(array.shape, array.itemsize, key)
    if planned is None:
        return None, 0
    data = array.tobytes()
    runs = [data[start : start + planned.length] for start in starts_of(planned)]
    assert all(len(run) == planned.length for run in runs)
    return np.frombuffer(b"".join(runs), array.dtype).reshape(planned.shape), sum(map(len, runs))


def count_of(planned):
    """The number of runs of a plan."""
    return math.prod(map(len, planned.axes))


def assert_planned(array, key):
    """The plan gives numpy's answer, with numpy's shape, from exactly its bytes."""
    expected = array[key]
    answer, count = assembled(array, key)

    assert answer is not None
    assert (answer.shape, count) == (np.shape(expected), expected.nbytes)
    assert answer.tobytes() == np.asarray(expected).tobytes()


@st.composite
def _basic(draw):
    """An array, and a basic index of it: integers, slices with steps, an ellipsis, new axes."""
    shape = draw(_shapes)
    return array_of(shape, draw(_dtypes)), draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))


@st.composite
def _by_rows(draw):
    """An array, and an index of rows by an integer array, a list or a mask, followed by a basic one."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=6))
    rows = st.integers(-shape[0], shape[0] - 1)
    dtype = draw(_int_types)
    picked = hnp.arrays(
        dtype,
        hnp.array_shapes(min_dims=0, max_dims=3, max_side=4),
        elements=rows.filter(lambda row: "u" not in dtype or row >= 0),
    )
    masks = hnp.arrays(bool, shape[:1])
    picker = draw(st.one_of(picked, st.lists(rows, max_size=5), masks, masks.map(np.ndarray.tolist)))
    rest = draw(hnp.basic_indices(shape[1:], allow_newaxis=True))
    return array_of(shape, draw(_dtypes)), draw(st.sampled_from([picker, (picker, *_parts(rest))]))


def _parts(key):
    return key if isinstance(key, tuple) else (key,)


@given(_basic())
def test_a_basic_index_is_planned(case):
    """Integers, slices with any step, ellipses and new axes give numpy's answer from exactly its bytes."""
    assert_planned(*case)


@given(_by_rows())
@example((array_of((200, 2)), np.array([3, -1], "int8")))
@example((array_of((300, 2)), np.array([3, 255], "uint8")))
@example((array_of((2, 3)), []))
@example((array_of((2, 3)), [[], []]))
@example((array_of((2, 3)), np.array(1)))
@example((array_of((2, 3, 4)), ([1, 0], slice(None), 2)))
@example((array_of((4, 3)), range(3)))
@example((array_of((4, 3)), ((1, 2), slice(None))))
@example((array_of((4, 3)), array.array("l", [1])))
@example((array_of((4, 3)), ArrayLike([3, -1])))
@example((array_of((4, 3)), ((), 0)))
def test_rows_are_planned(case):
    """Integer arrays and masks on the first axis, with a basic index after them, are planned."""
    assert_planned(*case)


class Planned:
    """An array indexed by its plans, or by numpy where there is none."""

    def __init__(self, values):
        self.values = values

    def __getitem__(self, key):
        planned = plan(self.values.shape, self.values.itemsize, key)
        if planned is None:
            return self.values[key]
        answer, _ = assembled(self.values, key)
        return answer[()] if planned.is_scalar else answer


@given(st.randoms(use_true_random=False), _shapes)
def test_a_plan_of_any_key_is_numpys_answer(choose, shape):
    """For any key, type, shape and values equal numpy's answer, or the error equals numpy's."""
    values = array_of(shape)
    keys = [any_key(choose, shape) for _ in range(8)]

    assert [(key, outcome(Planned(values), key)) for key in keys] == [(key, outcome(values, key)) for key in keys]


ADVANCED = [
    (slice(None), [0, 1]),
    ([0, 1], [0, 1]),
    (None, [0, 1]),
    (..., [0, 1]),
    (slice(None), (1, 2)),
    (slice(None), range(2)),
    (0, ArrayLike([1])),
    np.ones((4, 3), bool),
    True,
    np.False_,
]


@pytest.mark.parametrize("key", ADVANCED, ids=repr)
def test_other_advanced_indices_have_no_plan(key):
    """Several arrays, or arrays on other axes, are answered from the whole value."""
    assert array_of((4, 3, 2))[key] is not None
    assert plan((4, 3, 2), 4, key) is None


WRONG = [
    (4, ...),
    -5,
    (0, 3),
    (0, 0, 0),
    (..., ...),
    "name",
    1.0,
    [4],
    [0, -5],
    np.array([4], "uint8"),
    np.array([2**63], "uint64"),
    [1.0],
    np.array([], "float64"),
    [True, False],
    [True] * 5,
    np.array([True] * 5),
    ([0], 3),
    ([0], 0, 0),
    ([0], "name"),
    ["name"],
]


@pytest.mark.parametrize("key", WRONG, ids=repr)
def test_what_numpy_refuses_is_refused(key):
    """An index that is out of range, too long or invalid raises IndexError, as in numpy."""
    with pytest.raises(IndexError):
        array_of((4, 3))[key]

    with pytest.raises(IndexError):
        plan((4, 3), 4, key)


@pytest.mark.parametrize("key", [0, -1, (0,), slice(None), (None, 0)], ids=repr)
def test_a_scalar_has_no_axis_to_index(key):
    """On a value without dimensions every index but `()`, `...` and new axes raises IndexError, as in numpy."""
    with pytest.raises(IndexError):
        array_of(())[key]

    with pytest.raises(IndexError):
        plan((), 4, key)


@pytest.mark.parametrize(
    ("shape", "key", "elements"),
    [
        ((HUGE,), 7, 1),
        ((HUGE,), slice(5, HUGE - 5), HUGE - 10),
        ((HUGE,), [5, -1, 5], 3),
        ((2**20, 2**20), 3, 2**20),
        ((2**20, 2**20), slice(1, None), HUGE - 2**20),
        ((2**20, 2**20), (slice(10, 12), slice(None, None, 2**18)), 8),
        ((2**20, 2**20), ([1, 2, -1], slice(5)), 15),
        ((2**20, 2**20), (slice(None), 0), 2**20),
        ((HUGE, 2), (slice(None, None, -3), 1), -(-HUGE // 3)),
        ((HUGE, 2**19), (-1, -1), 1),
        ((0, HUGE), (slice(None), slice(None, None, 2)), 0),
        ((HUGE, 0), slice(None, None, -1), 0),
        ((HUGE, 0, 2**19), (..., None), 0),
        ((HUGE,), slice(3, 3), 0),
    ],
)
def test_a_plan_takes_no_memory(shape, key, elements):
    """A value of 2**40 elements and more is planned without memory for it, nor for the runs of a regular key."""
    tracemalloc.start()
    planned = plan(shape, 8, key)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert (count_of(planned) * planned.length, math.prod(planned.shape)) == (elements * 8, elements)
    assert peak < 50_000


@pytest.mark.parametrize(
    ("key", "runs"),
    [
        (..., 1),
        (slice(1, 3), 1),
        (2, 1),
        ((2, slice(1, 4)), 1),
        ((slice(None), slice(None), slice(None)), 1),
        ((slice(1, 3), slice(1, 4)), 2),
        ((slice(None), 0), 4),
        ((..., 0), 20),
        (slice(None, None, -1), 4),
        ([0, 1], 2),
        (([0, 1], slice(1, 3)), 2),
        (([0, 1], slice(None), 1), 10),
    ],
    ids=repr,
)
def test_what_lies_together_is_one_run(key, runs):
    """Adjacent elements are one run of the plan, however the index is written."""
    planned = plan((4, 5, 6), 4, key)

    assert count_of(planned) == runs
