"""Which files of the folders of ranks are one checkpoint: one step of one run, that all needed ranks have whole."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_folders import rank_folder, strategy_of

import lazyckpt
from lazyckpt.errors import ArgumentValueError, LazyCkptError, MissingFile, WrongFormat
from lazyckpt.sharding.members import RANKS, Folder
from lazyckpt.sharding.rank_members import of_ranks


def members(ranks, count=None, step=None, broken=()):
    """The members of the folders of ranks: `ranks` gives the names in each; of empty files they end in `!`."""
    folders = {
        rank: Folder(f"f/rank_{rank}", {name.rstrip("!"): 0 if name.endswith("!") else 9 for name in names})
        for rank, names in ranks.items()
    }
    return of_ranks(folders, "f", count, step, {f"f/{path}": "it is cut" for path in broken})


def taken(found):
    """The files of members, by rank."""
    return dict(zip(found.ranks, (path.rpartition("/")[2] for path in found.files), strict=True))


@pytest.mark.parametrize(
    ("ranks", "options", "step"),
    [
        ({0: ["m-1_10.ckpt", "m-1_20.ckpt"], 1: ["m-1_10.ckpt"]}, {}, "1_10"),
        ({0: ["m-1_10.ckpt", "m-1_20.ckpt"], 1: ["m-1_10.ckpt", "m-1_20.ckpt!"]}, {}, "1_10"),
        ({0: ["m-1_10.ckpt", "m-1_20.ckpt"], 1: ["m-1_10.ckpt", "m-1_20.ckpt"]}, {"broken": ["rank_0/m-1_20.ckpt"]},
         "1_10"),
        ({0: ["m-9_1.ckpt", "m-10_1.ckpt"], 1: ["m-9_1.ckpt", "m-10_1.ckpt"]}, {}, "10_1"),
        ({0: ["m-9_1.ckpt", "m-10_1.ckpt"], 1: ["m-9_1.ckpt", "m-10_1.ckpt"]}, {"step": "9_1"}, "9_1"),
        ({0: ["m.ckpt", "m-1_10.ckpt"], 1: ["m.ckpt"]}, {}, ""),
        ({0: ["m-1_10.ckpt", "m-1_10_breakpoint.ckpt"], 1: ["m-1_10.ckpt"]}, {}, "1_10"),
        ({0: ["m-1_10.ckpt"], 1: ["m-1_10.ckpt"], 7: ["m-1_9.ckpt"]}, {"count": 2}, "1_10"),
        ({0: ["m-1_10.ckpt", "m_1-1_5.ckpt"], 1: ["m-1_10.ckpt"]}, {}, "1_10"),
    ],
)  # fmt: skip
def test_the_newest_step_that_all_needed_ranks_have_whole_is_taken(ranks, options, step):
    """Steps are compared as numbers; files that are empty or cannot be read do not count."""
    found = members(ranks, **options)

    assert (found.kind, found.step, set(found.ranks)) == (RANKS, step, {0, 1})
    assert len(set(taken(found).values())) == 1


@pytest.mark.parametrize(
    "pattern",
    ["net_rank_{}-3_7.ckpt", "checkpoint_{}.ckpt", "net{}.ckpt", "net{}-1_1.safetensors", "v1_rank{}_net-1_1.ckpt"],
)
def test_names_with_the_number_of_the_rank_are_of_one_run(pattern):
    """Ranks beyond nine, and a name with another number, too."""
    found = members({rank: [pattern.format(rank)] for rank in (0, 1, 2, 11)})

    assert taken(found) == {rank: pattern.format(rank) for rank in (0, 1, 2, 11)}


def test_a_second_run_is_not_the_first_of_another_rank():
    """`net_1` in the folders of all ranks is a run of its own, and not `net` of rank 1."""
    found = members({rank: ["net_1-1_5.ckpt", "net-1_5.ckpt"] for rank in (0, 1)}, step="net_1-1_5")

    assert set(taken(found).values()) == {"net_1-1_5.ckpt"}


def test_a_newer_step_is_named_when_it_is_passed_over():
    """With the ranks that lack it; a rank without a folder is named as well. Both are warnings."""
    found = members({0: ["m-1_10.ckpt", "m-1_20.ckpt"], 1: ["m-1_10.ckpt"]}, count=3)

    assert "not the newer 1_20 (not whole on rank 1)" in found.what
    assert "no file of rank 2" in found.what
    assert found.warns
    assert not members({0: ["m-1_10.ckpt"], 1: ["m-1_10.ckpt"]}, count=2).warns


def test_the_files_of_a_single_step_are_taken_even_if_not_whole():
    """Nothing can be mixed then; what the other ranks hold will load."""
    found = members({0: ["m-1_1.ckpt"], 1: ["m-1_1.ckpt!"], 2: ["m-1_1.ckpt"]}, broken=["rank_2/m-1_1.ckpt"])

    assert found.ranks == (0, 1, 2)


def test_a_step_that_was_asked_for_is_taken_even_if_not_whole():
    """The caller has chosen it; values of broken files are refused one by one."""
    found = members({0: ["m-1_1.ckpt", "m-1_2.ckpt!"], 1: ["m-1_1.ckpt", "m-1_2.ckpt"]}, step="2")

    assert taken(found) == {0: "m-1_2.ckpt", 1: "m-1_2.ckpt"}


WRONG = {
    "no common step": ({0: ["m-1_20.ckpt", "m-1_10.ckpt"], 1: ["m-1_30.ckpt"], 2: ["m-1_30.ckpt"]}, {}, MissingFile,
                       r"no step is whole on all ranks in f: rank 0: 1_10, 1_20; ranks 1 and 2: 1_30"),
    "no whole step": ({0: ["m-1_10.ckpt!", "m-1_20.ckpt"], 1: ["m-1_10.ckpt"]}, {}, MissingFile,
                      r"rank 0: 1_10 \(not whole\), 1_20; rank 1: 1_10"),
    "two runs on two ranks": ({0: ["a-1_10.ckpt"], 1: ["b-1_10.ckpt"]}, {}, MissingFile,
                              r"rank 0: a-1_10\.ckpt; rank 1: b-1_10\.ckpt"),
    "two runs": ({0: (names := ["a-1_10.ckpt", "b-1_20.ckpt"]), 1: names}, {}, ArgumentValueError,
                 r"several .*a-1_10\.ckpt, b-1_20\.ckpt"),
    "two formats": ({0: (names := ["a-1_10.ckpt", "a-1_10.safetensors"]), 1: names}, {}, ArgumentValueError, "several"),
    "two names": ({0: (names := ["best.ckpt", "last.ckpt"]), 1: names}, {}, ArgumentValueError, "several"),
    "a step twice": ({0: ["a-1_1.ckpt", "a-01_1.ckpt"]}, {}, ArgumentValueError, "both are of one step"),
    "a step of one rank": ({0: ["m-1_10.ckpt", "m-1_20.ckpt"], 1: ["m-1_10.ckpt"], 2: ["m-1_10.ckpt"]}, {"step": "20"},
                           MissingFile, r"step '20' is not on ranks 1 and 2 in f: rank 0: 1_10, 1_20; ranks 1 and 2: "),
    "no such step": ({0: ["m-1_10.ckpt"]}, {"step": "30"}, MissingFile, r"no rank in f has the step '30': .*: 1_10"),
    "an ambiguous step": ({0: ["m-1_10.ckpt", "m-2_10.ckpt"]}, {"step": "10"}, ArgumentValueError, "all of these"),
    "numbered parts": ({0: ["m-1-of-2.ckpt", "m-2-of-2.ckpt"]}, {}, WrongFormat, "several parts"),
    "one of numbered parts": ({0: ["m-00002-of-00002.ckpt"]}, {}, WrongFormat, "several parts"),
    "parts of stages": ({0: ["m0_part0.ckpt", "m0_part1.ckpt"]}, {}, WrongFormat, "several parts"),
    "a listing": ({0: ["m.ckpt.index.json", "m.ckpt"]}, {}, WrongFormat, "several parts"),
    "nothing": ({0: ["x.txt"], 1: []}, {}, MissingFile, "no checkpoint"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_one_step_is_refused(what):
    """The error names what each rank has; ranks that have the same are named together."""
    ranks, options, kind, message = WRONG[what]

    with pytest.raises(kind, match=message):
        members(ranks, **options)


def test_many_ranks_and_many_steps_make_a_short_message():
    """At most five ranks, groups of ranks, and steps of each are named."""
    ranks = {rank: [f"m-{rank}_{step}.ckpt" for step in range(100)] for rank in range(100)}
    with pytest.raises(MissingFile, match="95 other groups") as caught:
        members(ranks)

    assert len(str(caught.value)) < 1000


_ranks = st.dictionaries(
    st.integers(0, 2),
    st.dictionaries(
        st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["", "-1_9", "-1_10", "-2_1"])),
        st.sampled_from(["whole", "whole", "whole", "cut", "empty"]),
        max_size=3,
    ),
    min_size=1,
    max_size=3,
)


def expected_step(ranks):
    """The run and step to be taken, or None: a slow statement of the rule. A cut file is found when it is opened."""
    held = [files for files in ranks.values() if files]
    every = {key for files in held for key in files}
    if len(every) == 1:
        return next(iter(every))
    cut: set = set()
    while True:
        whole = {key for key in every if key not in cut and all(files.get(key, "empty") != "empty" for files in held)}
        stepped = {key for key in whole if key[1]} or whole
        if len({run for run, _ in stepped}) != 1:
            return None
        newest = max(stepped, key=lambda key: ["", "-1_9", "-1_10", "-2_1"].index(key[1]))
        if all(files[newest] == "whole" for files in held):
            return newest
        cut.add(newest)


@given(_ranks)
def test_two_steps_or_two_runs_are_never_mixed(ranks):
    """Real files, of which some are cut or empty: all values come from the one step, or opening is an error."""
    keys = sorted({key for files in ranks.values() for key in files})
    with tempfile.TemporaryDirectory() as name:
        folder = rank_folder(
            Path(name),
            {
                (rank, f"{run}{step}.ckpt"): (keys.index((run, step)), state)
                for rank, files in ranks.items()
                for (run, step), state in files.items()
            },
        )
        expected = expected_step(ranks)
        try:
            ckpt = lazyckpt.open_sharded(folder, strategy_of(folder, 3), index="memory")
        except LazyCkptError:
            is_nothing = expected is None or all(files.get(expected) != "whole" for files in ranks.values())
            assert is_nothing
            return
        with ckpt:
            assert float(ckpt["own"][0]) == keys.index(expected)
            if all(files.get(expected) == "whole" for files in ranks.values()) and len(ranks) == 3:
                assert ckpt["w"].asnumpy().tolist() == [keys.index(expected)] * 12
            else:
                with pytest.raises(lazyckpt.errors.CorruptFile, match="nowhere"):
                    ckpt["w"].asnumpy()


def test_a_newer_step_does_not_change_what_another_process_opens(tmp_path):
    """A checkpoint that was pickled opens the files that it was opened with, after a newer step was saved."""
    folder = rank_folder(tmp_path, {(rank, "m-1_10.ckpt"): 10 for rank in (0, 1)})
    with lazyckpt.open_sharded(folder, strategy_of(folder, 2), index="memory") as ckpt:
        sent = pickle.dumps(ckpt["w"])
    rank_folder(tmp_path, {(rank, "m-1_20.ckpt"): 20 for rank in (0, 1)})

    assert np.unique(pickle.loads(sent).asnumpy()).tolist() == [10]
