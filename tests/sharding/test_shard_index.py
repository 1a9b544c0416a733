"""Names of a distributed checkpoint: which ranks' slices make up a value, or why none do."""

from __future__ import annotations

import itertools
import json
import re
import tracemalloc

import pytest
from checkpoints import checkpoint, counting
from hypothesis import given
from hypothesis import strategies as st
from rank_slices import distributed, joined, layouts, slow_pieces, tensor_for
from sharded_sets import opened

import lazyckpt
from lazyckpt.model.entry import REFUSED, moved
from lazyckpt.sharding.layout import partition_of
from lazyckpt.sharding.shard_index import Rank, ShardedIndex, ShardResolver
from lazyckpt.sharding.strategy import Layout

HALVES = Layout((2,), ((0,),))  # two ranks, each with half of the rows
COPIES = Layout((2,), ((-1,),))  # two ranks, each with all of the tensor
ALONE = Layout((1,), ((-1,),))


def resolved(strategy, *values, **changes):
    """A resolver over ranks from 0 on, given the values of each, and their indexes. `changes` are of the last rank."""
    ranks, _ = joined(dict(enumerate(map(checkpoint, values))))
    last = max(ranks)
    facts = {"file": ranks[last].file, "index": ranks[last].index, "base": ranks[last].base, **changes}
    return ShardResolver({**ranks, last: Rank(**facts)}, strategy), ranks


def index_of(strategy, *values):
    """The index over the files of ranks, given the values of each."""
    resolver, ranks = resolved(strategy, *values)
    return ShardedIndex(resolver, ranks)


@given(layouts())
def test_the_copies_of_a_part_are_those_of_all_ranks_that_hold_it(layout):
    """Each rank is in one part, and its entry is the one of its own file, moved to where that file begins."""
    values = [{"w": piece} for piece in slow_pieces(layout, tensor_for(layout))]
    resolver, ranks = resolved({0: {"w": layout}}, *values)
    cut = partition_of(layout)
    found = resolver.copies("w")

    assert sorted(map(sorted, ([rank for rank, _ in held] for held in found))) == sorted(
        list(cut.holders_of(place)) for place in cut.every_part()
    )
    assert all(
        entry == moved(ranks[rank].index["w"], ranks[rank].base) for rank, entry in itertools.chain.from_iterable(found)
    )


@given(layouts())
def test_of_each_part_the_lowest_rank_is_read(layout):
    """The boxes of a value are the entries of the lowest ranks that hold its parts."""
    resolver, ranks = resolved({0: {"w": layout}}, *({"w": piece} for piece in slow_pieces(layout, tensor_for(layout))))
    cut = partition_of(layout)
    lowest = [next(iter(cut.holders_of(place))) for place in cut.every_part()]

    assert [box.entry for box in resolver.boxes_of("w")] == [
        moved(ranks[rank].index["w"], ranks[rank].base) for rank in lowest
    ]


def test_of_several_pipeline_stages_the_lowest_counts():
    """A name that two stages have is that of the ranks of the first."""
    strategy = {1: {"w": ALONE, "b": ALONE}, 0: {"w": ALONE}}
    values = {"w": counting((2,)), "b": counting((2,))}
    resolver, ranks = resolved(strategy, values, values)

    assert resolver.entry("w").start == ranks[0].index["w"].start
    assert resolver.entry("b").start == ranks[1].base + ranks[1].index["b"].start


def test_a_name_that_the_strategy_does_not_know_is_whole():
    """The lowest rank that has it counts; it has no boxes."""
    resolver, ranks = resolved({}, {"a": counting((1,))}, {"w": counting((2,))}, {"w": counting((3,))})

    assert resolver.entry("w") == moved(ranks[1].index["w"], ranks[1].base)
    assert resolver.boxes_of("w") == ()


UNFIT = {
    "no file": ([{"w": counting((2, 2))}], {}, "part [1, 0] is nowhere: rank 1 has no file"),
    "not in the file": ([{"w": counting((2, 2))}, {"b": counting((1,))}], {}, "rank_1 lacks it"),
    "an unreadable file": (
        [{"w": counting((2, 2))}, {"w": counting((2, 2))}], {"index": None, "fault": "rank_1 is damaged"},
        "part [1, 0] is nowhere: rank_1 is damaged",
    ),
    "a shape": (
        [{"w": counting((2, 2))}, {"w": counting((2, 3))}], {},
        "its slice has the shape (2, 2) in rank_0, (2, 3) in rank_1",
    ),
    "a dtype": (
        [{"w": counting((2, 2))}, {"w": counting((2, 2), "float16")}], {}, "it is Float32 in rank_0, Float16 in rank_1"
    ),
    "a kind": ([{"w": counting((2, 2))}, {"w": "text"}], {}, "in rank_1 it is a string"),
    "too few axes": ([{"w": counting((2,))}] * 2, {}, "in rank_0 it has 1 axes, the strategy cuts 2"),
}  # fmt: skip


@pytest.mark.parametrize("what", UNFIT)
def test_a_value_that_cannot_be_put_together_is_refused_with_the_reason(what):
    """Its entry names the ranks' files; no box of it is remembered."""
    values, changes, reason = UNFIT[what]
    resolver, _ = resolved({0: {"w": Layout((2,), ((0,), (-1,)))}}, *values, **changes)
    entry = resolver.entry("w")

    assert (entry.name, entry.kind, resolver.boxes_of("w")) == ("w", REFUSED, ())
    assert reason in entry.reason


def test_uneven_parts_differ_in_their_rows_alone():
    """The parts of a cut in one and three rows make up four; other axes must agree."""
    uneven = Layout((2,), ((0,), (-1,)), rows=(1, 3), starts=(0, 1))
    fits, _ = resolved({0: {"w": uneven}}, {"w": counting((1, 2))}, {"w": counting((3, 2))})
    other, _ = resolved({0: {"w": uneven}}, {"w": counting((1, 2))}, {"w": counting((3, 4))})

    assert fits.entry("w").shape == (4, 2)
    assert "its slice has the shape" in other.entry("w").reason


def test_a_value_is_resolved_once():
    """The second look at a name finds the same entry, and so does one through the index."""
    resolver, ranks = resolved({0: {"w": HALVES}}, {"w": counting((2,))}, {"w": counting((2,))})

    assert resolver.entry("w") is resolver.entry("w") is ShardedIndex(resolver, ranks)["w"]


def test_all_ways_through_the_index_lead_to_the_same_entries():
    """By name, by ordinal, in a walk and by prefix."""
    index = index_of(
        {0: {"layer.w": HALVES, "layer.b": COPIES}},
        {"layer.w": counting((2,)), "s": "text"},
        {"layer.w": counting((2,)), "layer.b": counting((1,))},
    )
    names = list(index)

    assert [index[name] for name in names] == list(index.entries()) == [index.at(n) for n in range(len(index))]
    assert [index.position(name) for name in names] == list(range(len(index)))
    assert index.with_prefix("layer.") == [(name, index.position(name)) for name in names if name.startswith("layer.")]


@pytest.mark.parametrize("name", ["none", "", 5, None])
def test_a_name_that_no_rank_has_is_a_key_error(name):
    """Also one that the strategy knows."""
    index = index_of({0: {"none": HALVES}}, {"w": counting((2,))})

    assert index.position(name) is None
    with pytest.raises(KeyError):
        index[name]


def test_a_whole_value_has_no_path_and_no_digest():
    """Each file has an index of its own, and digests are of slices."""
    index = index_of({0: {"w": HALVES}}, {"w": counting((2,))}, {"w": counting((2,))})

    assert (index.path, index.has_digests) == (None, False)
    assert repr(index) == "<Index of 1 parameters in the files of 2 ranks>"


def test_closing_it_closes_the_indexes_of_the_files(monkeypatch):
    """Those that could be read."""
    resolver, ranks = resolved({}, {"w": counting((2,))}, {"w": counting((2,))})
    closed = []
    for number, rank in ranks.items():
        monkeypatch.setattr(rank.index, "close", lambda number=number: closed.append(number))
    ShardedIndex(resolver, {**ranks, 2: Rank("rank_2", None, fault="it is damaged")}).close()

    assert closed == [0, 1]


def test_names_are_those_of_all_ranks_in_the_order_of_their_files():
    """Each once; strings are there, too."""
    with opened("damaged/str_value") as ckpt:
        strings = [name for name in ckpt if isinstance(ckpt[name], str)]

        assert len(set(ckpt)) == len(list(ckpt)) == len(ckpt)
        assert strings


def promised(folder, layouts, ranks=2):
    """A set of few ranks, each with all names, and a strategy in JSON of any layouts."""
    for rank in range(ranks):
        (folder / f"rank_{rank}").mkdir()
        data = checkpoint({name: counting((2, 2)) for name in layouts})
        (folder / f"rank_{rank}" / "net.ckpt").write_bytes(data)
    (folder / "strategy.json").write_text(json.dumps({"parallel_layout_item": layouts}))
    return lazyckpt.open_sharded(folder, folder / "strategy.json", index="memory")


def test_a_layout_of_many_ranks_costs_as_much_as_the_ranks_that_there_are(tmp_path):
    """Each of many parameters is cut over 65,536 ranks in a way of its own; two ranks have files."""
    ways = list(itertools.permutations([2, 4, 8, 16, 64], 5))[:100]
    layouts = {f"w{number}": {"dev_matrix": list(way), "tensor_map": [0, 1]} for number, way in enumerate(ways)}
    with promised(tmp_path, layouts) as ckpt:
        tracemalloc.start()
        try:
            refused = [name for name in layouts if ckpt.entry(name).reason]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert (len(refused), peak < 2**20) == (100, True)


@pytest.mark.parametrize("axes", [[-1, 0], [-1, -1], [0, -1]])
def test_a_part_that_nobody_has_names_five_ranks_at_most(axes, tmp_path):
    """Of the thousands that should hold a copy."""
    with promised(tmp_path, {"w": {"dev_matrix": [2**12, 4], "tensor_map": axes}}) as ckpt:
        reason = ckpt.entry("w").reason

    assert len(re.findall(r"\brank \d+ has no file", reason)) == (0 if axes == [-1, -1] else 5)


@given(st.data(), layouts())
def test_any_copy_will_do(data, layout):
    """As long as one rank of each group of copies is left, nothing is lost."""
    whole = tensor_for(layout)
    cut = partition_of(layout)
    groups = [list(cut.holders_of(place)) for place in cut.every_part()]
    lost = [rank for ranks in groups for rank in set(ranks) - {data.draw(st.sampled_from(ranks))}]
    ckpt = distributed(layout, whole, lost)

    assert ckpt["w"].asnumpy().tolist() == whole.tolist()
    assert ckpt.load()["w"].tolist() == whole.tolist()
