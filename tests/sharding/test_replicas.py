"""Copies of slices on several ranks: any difference between them is found, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from checkpoints import checkpoint, counting
from hypothesis import given
from hypothesis import strategies as st
from rank_slices import joined, layouts, slow_pieces, tensor_for
from sharded_sets import CASES, opened, truth

from lazyckpt.errors import CorruptFile
from lazyckpt.sharding.layout import partition_of
from lazyckpt.sharding.replicas import compare_copies
from lazyckpt.sharding.shard_index import ShardedIndex, ShardResolver
from lazyckpt.sharding.strategy import Layout

COPIED = Layout((2,), ((-1,), (-1,)))  # two ranks, each with all of the tensor


def problems(strategy, *values):
    """What a comparison of the ranks' files says, given the values of each; empty if all copies agree."""
    ranks, source = joined(dict(enumerate(map(checkpoint, values))))
    resolver = ShardResolver(ranks, strategy)
    try:
        compare_copies(resolver, ShardedIndex(resolver, ranks), source)
    except CorruptFile as error:
        return error.what
    return ""


@given(st.data(), layouts())
def test_a_changed_value_is_found_if_there_is_a_copy(data, layout):
    """One number of one rank's slice is changed: that is found exactly if another rank holds the same slice."""
    slices = slow_pieces(layout, tensor_for(layout))
    changed = data.draw(st.integers(0, len(slices) - 1))
    slices[changed] = slices[changed].copy()
    slices[changed].reshape(-1)[data.draw(st.integers(0, slices[changed].size - 1))] += 1
    cut = partition_of(layout)
    first, *others = cut.holders_of(cut.part_of(changed))
    differing = others if changed == first else [changed]

    expected = [f"'w': its copies on ranks {first} and {rank} differ in value" for rank in differing]

    assert problems({0: {"w": layout}}, *({"w": piece} for piece in slices)).split("; ")[:10] == (expected or [""])[:10]


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (counting((2, 3)) + 1, "value"),
        (counting((3, 2)), "shape"),
        (counting((2, 3)).view("int32"), "dtype"),
        ("text", "dtype"),
    ],
    ids=["value", "shape", "dtype", "kind"],
)
def test_a_difference_has_a_name(other, what):
    """Value, shape or dtype, also where the bytes are the same."""
    assert problems({0: {"w": COPIED}}, {"w": counting((2, 3))}, {"w": other}) == (
        f"'w': its copies on ranks 0 and 1 differ in {what}"
    )


def test_values_that_are_not_cut_are_copies_on_all_ranks():
    """A name that the strategy does not know is compared on every rank that has it, strings too."""
    values = [{"s": "text", "n": np.int32(1)}, {"n": np.int32(1)}, {"s": "test", "n": np.int32(1)}]

    assert problems({}, *values) == "'s': its copies on ranks 0 and 2 differ in value"


def test_a_string_and_a_map_are_no_copies():
    """Neither has a dtype or a shape; their kinds differ."""
    arrays = [counting((2,), "int32"), counting((2, 3)), counting((2,), "int32")]

    assert problems({}, {"v": "text"}, {"v": arrays}) == "'v': its copies on ranks 0 and 1 differ in dtype"


def test_a_value_that_cannot_be_put_together_is_a_problem():
    """The comparison gives the reason that a read would give."""
    assert "rank 1 has no file" in problems({0: {"w": Layout((2,), ((0,),))}}, {"w": counting((2,))})


@pytest.mark.parametrize(("count", "more"), [(10, ""), (11, "; and 1 more"), (1234, "; and 1,224 more")])
def test_ten_problems_are_listed(count, more):
    """The message counts the others."""
    names = [f"w{number}" for number in range(count)]
    message = problems({}, *(dict.fromkeys(names, np.int32(rank)) for rank in (0, 1)))

    assert message.count("differ") == 10
    assert message.partition("'w9': ")[2] == "its copies on ranks 0 and 1 differ in value" + more


CHECKED = [name for name, (_, case) in CASES.items() if "strict_problems" in case and name != "damaged/two_files"]


@pytest.mark.parametrize("name", [name for name in CHECKED if CASES[name][1]["strict_problems"]])
def test_copies_that_disagree_are_found_on_request(name):
    """`check=True` compares every copy of every slice and lists the names."""
    names = {one for one, _ in CASES[name][1]["strict_problems"]}

    with pytest.raises(CorruptFile) as raised:
        opened(name, check=True)
    assert {one for one in truth(name) if f"'{one}':" in str(raised.value)} == names


@pytest.mark.parametrize(
    "name", ["damaged/good", "mixed_2x4/protobuf", "opt8/all", "pipe2x2/folder_pb", "redundancy/ckpt"]
)
def test_sound_sets_pass_the_check(name):
    """Nothing is found where all copies agree."""
    opened(name, check=True).close()
