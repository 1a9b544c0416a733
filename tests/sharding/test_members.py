"""Which files of a folder are one checkpoint: never two steps, never two runs, never half a set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.errors import ArgumentValueError, CorruptFile, LazyCkptError, MissingFile, NothingLoaded, WrongFormat
from lazyckpt.sharding.members import PARTS, SET, STEP, Folder, of_files, of_folder, of_listing


def members(*names, step=None, broken=(), folders=(), **sizes):
    """The members of a folder `f` with files of these names; `broken` are those that cannot be read."""
    files = dict.fromkeys(names, 100) | sizes
    return of_folder(Folder("f", files, folders), step, {f"f/{name}": "it is cut" for name in broken})


def names_of(found):
    """The names of members."""
    return [path.removeprefix("f/") for path in found.files]


STEPS = [f"net-{epoch}_100.ckpt" for epoch in range(1, 11)]


@pytest.mark.parametrize(
    ("names", "taken", "step"),
    [
        (STEPS, "net-10_100.ckpt", "10_100"),
        (["net-1_9.ckpt", "net-1_10.ckpt"], "net-1_10.ckpt", "1_10"),
        (["net.ckpt", "net-1_1.ckpt"], "net-1_1.ckpt", "1_1"),
        (["net-3_5.ckpt", "net-3_5_breakpoint.ckpt"], "net-3_5_breakpoint.ckpt", "3_5_breakpoint"),
        (["net-4_1.ckpt", "net-3_5_breakpoint.ckpt"], "net-4_1.ckpt", "4_1"),
        (["net-1_1.safetensors", "notes.txt", ".net-2_2.safetensors", "net-1_1.safetensors.lmdb"],
         "net-1_1.safetensors", "1_1"),
    ],
)  # fmt: skip
def test_the_newest_step_of_a_run_is_taken(names, taken, step):
    """By number, the epoch first; the sentence names the file."""
    found = members(*names)

    assert (found.kind, names_of(found), found.step, found.warns) == (STEP, [taken], step, False)
    assert found.what.startswith(taken)


def test_a_step_that_is_not_whole_is_passed_over():
    """An empty or a broken file is none; the sentence names it, as a warning."""
    found = members(*STEPS[:-1], broken=["net-9_100.ckpt"], **{"net-10_100.ckpt": 0})

    assert names_of(found) == ["net-8_100.ckpt"]
    assert found.warns
    assert "not net-10_100.ckpt, net-9_100.ckpt, newer but not whole" in found.what


def test_other_steps_of_the_run_are_known():
    """The nearest older one first, with which the caller checks that they are steps at all."""
    assert members(*STEPS[:3], step="2_100").others == ("f/net-1_100.ckpt", "f/net-3_100.ckpt")


@pytest.mark.parametrize(
    ("step", "taken"), [("3_100", "net-3_100.ckpt"), ("net-3_100", "net-3_100.ckpt"), ("7", "net-1_7.ckpt")]
)
def test_a_step_is_chosen(step, taken):
    """By its number, or by its name, which also chooses among several runs."""
    assert names_of(members(*STEPS, "net-1_7.ckpt", step=step)) == [taken]
    assert names_of(members(*STEPS, "net-1_7.ckpt", "b-1_1.ckpt", step=step)) == [taken]


SETS = {
    "by numbers": (["a-00001-of-00002.ckpt", "a-00002-of-00002.ckpt"], SET),
    "by numbers from 0": (["a-0-of-2.safetensors", "a-1-of-2.safetensors"], SET),
    "by one number": (["a-1-of-1.ckpt"], SET),
    "parts": (["conv.ckpt", "dense.ckpt"], PARTS),
    "parts of stages": (["net_part0.ckpt", "net_part1.ckpt"], PARTS),
    "one file": (["net.ckpt"], PARTS),
    "two formats": (["a.ckpt", "b.safetensors"], PARTS),
}


@pytest.mark.parametrize("what", SETS)
def test_parts_are_taken_together(what):
    """All of them, in the order of their names."""
    names, kind = SETS[what]
    found = members(*names)

    assert (found.kind, names_of(found), found.step, found.listing) == (kind, names, "", "")


@pytest.mark.parametrize("listing", ["m.safetensors.index.json", "m.ckpt.index.json", "param_name_map.json"])
def test_a_listing_says_what_belongs_to_it(listing):
    """Numbers and steps of files beside it count no more; the sentence names what it does not name."""
    names = ["a-1-of-2.ckpt", "b-1_1.ckpt", "c.ckpt", "pytorch_model.bin.index.json", "._x.ckpt.index.json"]
    found = members(*names, listing)
    read = of_listing(Folder("f", dict.fromkeys(names, 1)), found, ["c.ckpt"])

    assert (found.kind, found.listing, found.files) == (SET, f"f/{listing}", ())
    assert (read.listing, read.warns) == (found.listing, True)
    assert "not a-1-of-2.ckpt, b-1_1.ckpt, which it does not name" in read.what


WRONG = {
    "nothing": ([], {}, MissingFile, "no checkpoint"),
    "a listing of torch alone": (["pytorch_model.bin.index.json"], {}, MissingFile, "no checkpoint"),
    "two listings": (["a.ckpt.index.json", "b.ckpt.index.json", "x.ckpt"], {}, ArgumentValueError,
                     r"several .*a\.ckpt\.index\.json, b\.ckpt\.index\.json"),
    "a missing number": (["a-00001-of-00003.ckpt", "a-00003-of-00003.ckpt"], {}, MissingFile,
                         r"its part a-00002-of-00003\.ckpt does not exist"),
    "a missing last number": (["a-1-of-2.ckpt"], {}, MissingFile, r"a-2-of-2\.ckpt does not exist"),
    "a missing first number": (["a-2-of-2.ckpt"], {}, MissingFile, r"a-1-of-2\.ckpt does not exist"),
    "a great number": ([f"a-1-of-{10**17}.ckpt"], {}, MissingFile, r"a-2-of-1000"),
    "too many numbers": (["a-1-of-2.ckpt", "a-2-of-2.ckpt", "a-3-of-2.ckpt"], {}, CorruptFile, "3 files are numbered"),
    "a number twice": (["a-1-of-2.ckpt", "a-2-of-2.ckpt", "a-02-of-2.ckpt"], {}, CorruptFile, "3 files are numbered"),
    "an empty numbered part": (["a-1-of-2.ckpt"], {"a-2-of-2.ckpt": 0}, NothingLoaded, "a-2-of-2.*empty"),
    "an empty part": (["a.ckpt"], {"b.ckpt": 0}, NothingLoaded, "b.ckpt.*empty"),
    "two numbered sets": (["a-1-of-1.ckpt", "b-1-of-1.ckpt"], {}, ArgumentValueError, "several"),
    "two sets of two formats": (["a-1-of-1.ckpt", "a-1-of-1.safetensors"], {}, ArgumentValueError, "several"),
    "a numbered set and a file": (["a-1-of-1.ckpt", "b.ckpt"], {}, ArgumentValueError, r"several .*b\.ckpt"),
    "two runs": (["a-1_10.ckpt", "b-1_20.ckpt"], {}, ArgumentValueError, r"several .*a-1_10\.ckpt, b-1_20\.ckpt"),
    "two runs of a prefix": (["a-1_10.ckpt", "a_1-1_10.ckpt"], {}, ArgumentValueError, "several"),
    "a run in two formats": (["a-1_10.ckpt", "a-1_10.safetensors"], {}, ArgumentValueError, "several"),
    "a run and a file": (["a-1_10.ckpt", "best.ckpt"], {}, ArgumentValueError, r"several .*best\.ckpt"),
    "a step twice": (["a-1_10.ckpt", "a-01_10.ckpt"], {}, ArgumentValueError, "several .*both are of one step"),
    "no whole step": ([], {"a-1_10.ckpt": 0, "a-1_20.ckpt": 0}, CorruptFile,
                      r"no step in f is whole; a-1_20\.ckpt: the file is empty"),
    "a run of checkpoint 2.0": (["latest_checkpointed_iteration.txt"], {}, WrongFormat, r"checkpoint 2\.0"),
    "checkpoint 2.0": (["model-0000000-0000002.safetensors", "model-0000001-0000002.safetensors", "metadata.json"], {},
                       WrongFormat, r"MindFormers.* checkpoint 2\.0.*slices"),
    "checkpoint 2.0 of one": (["model-0000000-0000001.safetensors", "common.json"], {}, WrongFormat, r"2\.0"),
    "ZeRO": (["params_split_info_0.json", "net_0.ckpt", "net_1.ckpt"], {}, WrongFormat, "ZeRO.*slices"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_one_checkpoint_is_refused(what):
    """The error lists what the folder holds, and never advises to take one of two files that have the same names."""
    names, sizes, kind, message = WRONG[what]

    with pytest.raises(kind, match=message) as caught:
        members(*names, **sizes)
    assert "collisions" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "step", "kind", "message"),
    [
        (["a-1_10.ckpt", "a-2_10.ckpt"], "10", ArgumentValueError, r"step='10' means all of these"),
        (["a-1_10.ckpt"], "20", MissingFile, r"no step '20'; it has a-1_10\.ckpt"),
        (["a.ckpt"], "10", ArgumentValueError, "no files of steps"),
        (["a-1-of-1.ckpt"], "10", ArgumentValueError, "no files of steps"),
    ],
)
def test_a_step_that_does_not_exist_is_refused(names, step, kind, message):
    """The error lists the steps."""
    with pytest.raises(kind, match=message):
        members(*names, step=step)


def test_the_folder_of_a_run_of_checkpoint_2_is_known_by_its_folders():
    """Also without the file that names the last iteration."""
    with pytest.raises(WrongFormat, match="iteration_00000020, iteration_00000010"):
        members(folders=["iteration_00000010", "iteration_00000020"])


def test_given_files_are_parts():
    """In their order; a part that is not among them is named, as a warning."""
    assert of_files(["b", "a"]).files == ("b", "a")
    half = of_files(["f/a-1-of-2.ckpt"])
    assert (half.warns, "not a-2-of-2.ckpt" in half.what, of_files(["f/a-1-of-1.ckpt"]).warns) == (True, True, False)
    assert of_files(["f/m.ckpt.index.json"]).listing == "f/m.ckpt.index.json"
    with pytest.raises(MissingFile, match="no file"):
        of_files([])


_files = st.dictionaries(
    st.builds(
        "{}{}.{}".format,
        st.sampled_from(["a", "b", "a_1"]),
        st.sampled_from(["", "-1_9", "-1_10", "-2_1", "-2_1_breakpoint", "-1-of-2", "-2-of-2"]),
        st.sampled_from(["ckpt", "ckpt", "safetensors"]),
    ),
    st.sampled_from(["whole", "whole", "whole", "broken", "empty"]),
    max_size=7,
)


def parsed(name):
    """Run, step, and whether a number makes it a part of a set; written once more, without regular expressions."""
    stem, _, ending = name.rpartition(".")
    run, _, rest = stem.partition("-")
    is_numbered = "-of-" in rest
    step = () if is_numbered or not rest else tuple(map(int, rest.replace("_breakpoint", "_1").split("_")))
    return (run, ending), step, is_numbered


@given(_files)
def test_no_folder_gives_two_steps_two_runs_or_half_a_set(files):
    """Against a slow statement of the rules, for folders of several runs, steps and parts."""
    try:
        found = members(
            **{name: 0 if state == "empty" else 1 for name, state in files.items()},
            broken=[name for name, state in files.items() if state == "broken"],
        )
    except LazyCkptError:
        found = None
    facts = {name: parsed(name) for name in files}
    runs = {run for run, _, _ in facts.values()}
    numbered = [name for name, (_, _, is_numbered) in facts.items() if is_numbered]
    stepped = [name for name, (_, step, _) in facts.items() if step]
    whole = [name for name, state in files.items() if state == "whole"]
    if numbered and not stepped:
        is_one = len(runs) == 1 and len(numbered) == len(files) == 2 and "empty" not in files.values()
        expected = sorted(files) if is_one else None
    elif stepped:
        newest = max(whole if len(files) > 1 else files, key=lambda name: facts[name][1], default=None)
        expected = [newest] if len(runs) == 1 and newest and not numbered else None
    else:
        has_empty = len(files) > 1 and "empty" in files.values()
        expected = sorted(files) if files and not has_empty else None

    assert (found and names_of(found)) == expected


@given(
    st.dictionaries(
        st.one_of(st.text(max_size=9), st.from_regex(r"[ab\n]?(-[0-9]+(-of-|_)[0-9]*)?(_breakpoint)?(\.ckpt|\.x)+")),
        st.integers(-1, 2),
        max_size=6,
    ),
    st.none() | st.text(max_size=5) | st.from_regex(r"[0-9]{1,20}(_[0-9]{1,20})?", fullmatch=True),
)
def test_any_names_give_members_or_an_error(files, step):
    """Names and steps of any kind: one whole answer of files that are there, or an error of the package."""
    try:
        found = of_folder(Folder("f", files), step)
    except LazyCkptError:
        return
    assert {path.removeprefix("f/") for path in (*found.files, *found.others)} <= set(files)
    assert found.listing or found.files
