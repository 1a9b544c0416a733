"""Steps: names give the run and the step, and a step is chosen by number or by name."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.errors import ArgumentTypeError, ArgumentValueError
from lazyckpt.sharding.steps import RunStep, Step, asked_step, matching, rank_variants, run_step

_numbers = st.integers(0, 10**9)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("net-1_10.ckpt", RunStep("net", ".ckpt", Step(1, 10))),
        ("net_1-2_30.ckpt", RunStep("net_1", ".ckpt", Step(2, 30))),
        ("a-1_2-3_4.safetensors", RunStep("a-1_2", ".safetensors", Step(3, 4))),
        ("net-1_10_breakpoint.ckpt", RunStep("net", ".ckpt", Step(1, 10, is_breakpoint=True))),
        ("net.ckpt", RunStep("net", ".ckpt", None)),
        ("net-10.ckpt", RunStep("net-10", ".ckpt", None)),
        ("net-1_x.ckpt", RunStep("net-1_x", ".ckpt", None)),
        ("-1_2.ckpt", RunStep("", ".ckpt", Step(1, 2))),
        ("net-1_²0.ckpt", RunStep("net-1_²0", ".ckpt", None)),
        ("net\n-1_2.ckpt", RunStep("net\n", ".ckpt", Step(1, 2))),
        (f"net-{'9' * 200}_1.ckpt", RunStep(f"net-{'9' * 200}_1", ".ckpt", None)),
    ],
)
def test_a_name_gives_the_run_and_the_step(name, found):
    """As MindSpore writes it; any other name has no step."""
    assert run_step(name) == found


@given(st.tuples(_numbers, _numbers), st.tuples(_numbers, _numbers))
def test_steps_are_compared_as_numbers(one, other):
    """The epoch first; a name without a step is older than all, a breakpoint newer than the file of its step."""
    ages = [run_step(f"net-{epoch}_{step}.ckpt").age for epoch, step in (one, other)]

    assert (ages[0] < ages[1]) == (one < other)
    assert run_step("net.ckpt").age < ages[0] < run_step("net-{}_{}_breakpoint.ckpt".format(*one)).age


@pytest.mark.parametrize(
    ("run", "rank", "variants"),
    [
        ("net", 3, ["net"]),
        ("net_rank_3", 3, ["net_rank_3", "net_rank_<N>"]),
        ("rank3_net", 3, ["rank3_net", "rank<N>_net"]),
        ("checkpoint_3", 3, ["checkpoint_3", "checkpoint_<N>"]),
        ("net_rank_03", 3, ["net_rank_03", "net_rank_<N>"]),
        ("net_rank_31", 3, ["net_rank_31"]),
        ("net3", 1, ["net3"]),
    ],
)
def test_a_run_may_be_named_without_the_number_of_the_rank(run, rank, variants):
    """Only the rank's own number is taken out, behind `rank` or at the end."""
    assert [each.run for each in rank_variants(RunStep(run, ".ckpt", None), rank)] == variants


@pytest.mark.parametrize(
    ("step", "text"), [(None, None), (10, "10"), (np.int64(10), "10"), ("1_10", "1_10"), (" a-1_10 ", "a-1_10")]
)
def test_a_step_is_a_number_or_a_string(step, text):
    """Anything with an index is a number."""
    assert asked_step(step) == text


@pytest.mark.parametrize(
    ("step", "kind"),
    [(-1, ArgumentValueError), ("", ArgumentValueError), ("-1", ArgumentValueError), (1.0, ArgumentTypeError),
     (True, ArgumentTypeError), (b"1", ArgumentTypeError), ((1, 10), ArgumentTypeError)],
    ids=str,
)  # fmt: skip
def test_other_steps_are_refused(step, kind):
    """No float is rounded, and no bool is a number."""
    with pytest.raises(kind, match="step must be"):
        asked_step(step)


NAMES = ["a.ckpt", "a-1_10.ckpt", "a-1_10_breakpoint.ckpt", "a-2_10.ckpt", "a-2_20_breakpoint.ckpt", "b-3_30.ckpt"]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("1_10", ["a-1_10.ckpt"]),
        ("01_10", ["a-1_10.ckpt"]),
        ("10", ["a-1_10.ckpt", "a-2_10.ckpt"]),
        ("20", ["a-2_20_breakpoint.ckpt"]),
        ("1_10_breakpoint", ["a-1_10_breakpoint.ckpt"]),
        ("10_breakpoint", ["a-1_10_breakpoint.ckpt"]),
        ("30", ["b-3_30.ckpt"]),
        ("a", ["a.ckpt"]),
        ("b-3_30", ["b-3_30.ckpt"]),
        ("b-3_30.ckpt", ["b-3_30.ckpt"]),
        ("1_20", []),
        ("2", []),
        ("c-1_10", []),
    ],
)
def test_a_step_means_the_files_of_its_number_or_name(asked, meant):
    """All files that it may mean are returned, so that the caller can refuse an ambiguous one."""
    known = {run_step(name): (name,) for name in NAMES}

    assert [known[each][0] for each in matching(asked, known)] == meant


def test_a_step_prints_as_names_have_it():
    """With the word for a breakpoint; pickled, it is the same."""
    step = Step(1, 10, is_breakpoint=True)

    assert (str(step), str(Step(1, 10)), pickle.loads(pickle.dumps(step))) == ("1_10_breakpoint", "1_10", step)
