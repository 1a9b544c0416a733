"""`Checkpoint` behaves as the dict that MindSpore returns, and reads only what is used."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from checkpoints import LAYERS, MIXED, array_value, checkpoint, counting
from mindspore_results import FILES, recorded
from opening import opened_and_traced, opened_over
from tracing import TracingSource, places

import lazyckpt
from lazyckpt import Parameter
from lazyckpt.errors import ArgumentTypeError, ArgumentValueError, ClosedCheckpoint, MissingName
from lazyckpt.index.selection import AllNames
from lazyckpt.sources import BytesSource

DATA = checkpoint(MIXED)
NAMES = list(MIXED)
TENSORS = [name for name, value in MIXED.items() if isinstance(value, np.ndarray)]


def plain(value):
    """A value in a form that can be compared."""
    if isinstance(value, list):
        return [plain(part) for part in value]
    array = value.asnumpy() if isinstance(value, Parameter) else value
    return array if isinstance(array, str) else (array.shape, array.dtype.name, array.tobytes())


def test_names_come_in_file_order_with_their_values(ckpt):
    """Tensors as parameters, strings as text, maps as three arrays."""
    assert {name: plain(value) for name, value in ckpt.items()} == {name: plain(value) for name, value in MIXED.items()}
    assert (list(ckpt), list(ckpt.keys()), len(ckpt)) == (NAMES, NAMES, len(NAMES))
    assert list(reversed(ckpt)) == NAMES[::-1]


def test_looking_at_names_and_shapes_reads_nothing():
    """Length, membership, iteration, repr, selection and parameters' attributes read no byte of the file."""
    source = TracingSource(DATA)
    ckpt = opened_and_traced(source)
    assert (len(ckpt), NAMES[0] in ckpt, "none" in ckpt, list(ckpt), list(ckpt.keys())) == (
        8,
        True,
        False,
        NAMES,
        NAMES,
    )
    assert [(ckpt[name].shape, str(ckpt[name].dtype), ckpt[name].nbytes) for name in TENSORS]
    assert repr(ckpt)
    assert len(ckpt.select("conv")) == 2
    assert ckpt.entry("note").stored == 52
    ckpt["fc.weight"] = "another"
    del ckpt["step"]

    assert source.reads == []


def test_looking_at_a_value_reads_that_value():
    """Each value costs its own bytes and its header's; strings and maps are read when requested."""
    source = TracingSource(DATA)
    ckpt = opened_and_traced(source)
    for name in ("note", "table", "fc.weight"):
        source.reads.clear()
        value = ckpt[name]
        if isinstance(value, Parameter):
            value.asnumpy()
        entry = ckpt.entry(name)

        assert source.looked_at() == places([(entry.start, entry.stop - entry.start)])


def test_edits_never_touch_the_file(file):
    """Sets, deletions and renames leave the file's bytes and time unchanged, and another open sees the old values."""
    before = os.stat(file).st_mtime_ns
    with lazyckpt.load_checkpoint(str(file)) as ckpt:
        ckpt["new"] = ckpt.pop("conv1.weight")
        ckpt["fc.weight"].set_data([1.0])
        del ckpt["step"]
        ckpt.update(note="another", more=1)
    with lazyckpt.load_checkpoint(str(file)) as again:
        assert {name: plain(value) for name, value in again.items()} == {
            name: plain(value) for name, value in MIXED.items()
        }
    assert (file.read_bytes(), os.stat(file).st_mtime_ns) == (DATA, before)


@pytest.mark.parametrize("name", ["lenet_mini.ckpt", "base.ckpt", "all_dtypes.ckpt", "scalars.ckpt", "param_key.ckpt"])
def test_the_repr_of_a_small_one_is_mindspores(name, tmp_path):
    """The repr equals that of MindSpore's dict, character for character."""
    (tmp_path / name).write_bytes((FILES / name).read_bytes())
    entries = recorded(name)["entries"]
    with lazyckpt.load_checkpoint(str(tmp_path / name)) as ckpt:
        found = repr(ckpt)

    assert found == "{" + ", ".join(f"{entry['name']!r}: {entry['repr']}" for entry in entries) + "}"


def test_the_repr_describes_what_it_would_have_to_read(ckpt):
    """An unread string or map is described; once read, it is shown."""
    before = repr(ckpt.select(lambda name: name in ("note", "table")))
    note = ckpt["note"]

    assert before == "{'note': <str of 13 characters>, 'table': [<Int32 (3,)>, <Float32 (3, 4)>, <Int32 (3,)>]}"
    assert repr(ckpt.select("note")) == f"{{'note': {note!r}}}"


def test_the_repr_of_a_large_one_is_cut_with_a_count():
    """A hundred entries are shown, with a count of the others."""
    shown = opened_over(BytesSource(b"".join(array_value(f"w{number}", counting((1,))) for number in range(1234))))

    assert repr(shown).endswith("requires_grad=True), … and 1,134 more}")
    assert repr(shown).count("Parameter (") == 100


def test_the_repr_shows_edits(ckpt):
    """An assigned value is shown in its position."""
    small = ckpt.select("step")
    small["step"].set_data([1.5, 2.5])
    small["more"] = "text"

    assert repr(small) == (
        "{'step': Parameter (name=step, shape=(2,), dtype=Float64, requires_grad=True), 'more': 'text'}"
    )


def test_a_selection_by_prefix_is_a_range_of_the_index(ckpt, monkeypatch):
    """Names with the prefix come in file order, without a walk over all of them."""
    monkeypatch.setattr(AllNames, "__iter__", lambda self: pytest.fail("all names were walked"))

    assert list(ckpt.select("conv1.")) == ["conv1.weight", "conv1.bias"]
    with pytest.raises(MissingName):
        ckpt.select("none")


ODD = {"layers[0].w": np.ones(1), "layers0.w": np.ones(2), "layers0.b": np.ones(3), "a": np.ones(4), "ab": np.ones(5)}


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ("layers[0].w", ["layers[0].w"]),
        ("layers[[]0].w", ["layers[0].w"]),
        ("layers[0].[wb]", ["layers0.w", "layers0.b"]),
        ("layers0", ["layers0.w", "layers0.b"]),
        ("a", ["a"]),
        ("a*", ["a", "ab"]),
        ("re:[.]w$", ["layers[0].w", "layers0.w"]),
        (lambda name: len(name) < 3, ["a", "ab"]),
        (["ab", "*.b", "a"], ["ab", "layers0.b", "a"]),
        (("a*", "ab"), ["a", "ab"]),
    ],
)
def test_every_method_takes_the_same_patterns(patterns, names, tmp_path):
    """An exact name, then a glob, then a prefix; `re:`, functions and lists of these."""
    ckpt = opened_over(BytesSource(checkpoint(ODD)))
    ckpt.save(tmp_path / "some.ckpt", patterns)

    assert list(ckpt.load(patterns)) == names
    assert [row.name for row in ckpt.stats(patterns)] == names
    assert list(lazyckpt.load_checkpoint(tmp_path / "some.ckpt")) == names
    assert list(ckpt.select(patterns)) == sorted(names, key=list(ODD).index)


@pytest.mark.parametrize("patterns", ["none", ["a", "none"], "*.none", "re:none", str.isupper, ["A"]])
def test_a_pattern_that_matches_nothing_is_an_error_of_every_method(patterns, tmp_path):
    """It is a KeyError, before anything is read or written."""
    ckpt = opened_over(BytesSource(checkpoint(ODD)))
    for call in (
        ckpt.select,
        ckpt.load,
        ckpt.stats,
        ckpt.references,
        ckpt.to_mindspore,
        lambda names: ckpt.save(tmp_path / "x.ckpt", names),
        lambda names: lazyckpt.diff(ckpt, ckpt, names=names),
    ):
        with pytest.raises(MissingName, match="no parameter"):
            call(patterns)
    assert not (tmp_path / "x.ckpt").exists()


@pytest.mark.parametrize("wrong", [3, b"a", [None], ["a", 3]])
def test_what_is_no_pattern_is_refused(wrong):
    """Not taken for a name that does not exist."""
    ckpt = opened_over(BytesSource(checkpoint(ODD)))
    for call in (ckpt.select, ckpt.load, ckpt.stats):
        with pytest.raises(ArgumentTypeError, match="needed"):
            call(wrong)


def test_an_empty_list_of_patterns_is_no_error():
    """Nothing was asked for, and nothing is given."""
    ckpt = opened_over(BytesSource(checkpoint(ODD)))

    assert (ckpt.load([]), len(ckpt.select([])), len(ckpt.stats([]))) == ({}, 0, 0)


def test_patterns_see_the_edits_of_a_mapping(ckpt):
    """Added names are found, removed ones are not, in any kind of pattern."""
    ckpt["conv9"] = np.ones(2)
    del ckpt["conv1.weight"]

    for pattern in ("conv", "conv*", "re:^conv", lambda name: name.startswith("conv")):
        assert list(ckpt.select(pattern)) == list(ckpt.load(pattern)) == ["conv1.bias", "conv9"]
    with pytest.raises(MissingName):
        ckpt.load("conv1.weight")


def test_what_needs_one_value_takes_a_pattern_of_one_name(ckpt):
    """`to_dask` refuses a pattern that several names match, and one that none does."""
    with pytest.raises(ArgumentValueError, match="'conv1' matches 2 parameters"):
        ckpt.to_dask("conv1")
    with pytest.raises(MissingName, match=r"did you mean 'fc\.weight'"):
        ckpt.to_dask("fc.wieght")


def test_new_names_of_values_that_do_not_exist_are_refused(ckpt, tmp_path):
    """A typo in a mapping for `rename` is an error, and nothing is written."""
    with pytest.raises(MissingName, match=r"did you mean 'fc\.weight'"):
        ckpt.save(tmp_path / "x.ckpt", "conv1", rename={"fc.wieght": "w"})
    assert not (tmp_path / "x.ckpt").exists()


def test_a_selection_by_function_asks_once_a_name(ckpt):
    """The function is called in file order."""
    asked = []
    view = ckpt.select(lambda name: asked.append(name) or name.endswith("weight"))

    assert (asked, list(view)) == (NAMES, ["conv1.weight", "fc.weight"])


def test_a_selection_can_be_narrowed(ckpt):
    """A selection can be selected from again."""
    assert list(ckpt.select("conv1").select(lambda name: "bias" in name)) == ["conv1.bias"]


def test_edits_of_a_selection_are_its_own(ckpt):
    """Changes in the view do not show in the whole, and changes in the whole do not show in the view."""
    view = ckpt.select("conv1")
    del view["conv1.weight"]
    view["new"] = 1
    ckpt["conv1.bias"] = 2

    assert (list(view), list(ckpt)) == (["conv1.bias", "new"], NAMES)
    assert isinstance(view["conv1.bias"], Parameter)


def test_load_reads_everything_into_memory_of_its_own(ckpt):
    """Tensors are writable arrays, strings are text, maps are arrays, and none shares memory with the mapping's."""
    loaded = ckpt.load()

    assert {name: plain(value) for name, value in loaded.items()} == {
        name: plain(value) for name, value in MIXED.items()
    }
    assert all(loaded[name].flags.writeable for name in TENSORS)
    assert not any(np.shares_memory(loaded[name], ckpt[name].asnumpy()) for name in TENSORS)
    assert not any(np.shares_memory(*pair) for pair in zip(loaded["table"], ckpt["table"], strict=True))
    assert not any(np.shares_memory(*pair) for pair in zip(ckpt.load()["table"], ckpt["table"], strict=True))


MANY = {f"layer{number}": counting((min(number % 7, 4) + 1, 5)) + number for number in range(90)}
AMONG = {**dict(list(MANY.items())[:50]), **MIXED, **MANY, "large": counting((5_000,))}


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_load_of_many_small_values_is_that_of_each(workers):
    """Values come in file order, strings and maps included, with the same progress."""
    heard, one_by_one = [], []
    with opened_over(BytesSource(checkpoint(AMONG))) as ckpt:
        loaded = ckpt.load(workers=workers, progress=lambda *counts: heard.append(counts))
        named = ckpt.load(list(ckpt), progress=lambda *counts: one_by_one.append(counts))

    assert list(loaded) == list(AMONG)
    assert {name: plain(value) for name, value in loaded.items()} == {
        name: plain(value) for name, value in AMONG.items()
    }
    assert {name: plain(value) for name, value in named.items()} == {name: plain(v) for name, v in loaded.items()}
    assert heard == one_by_one


def test_many_small_values_are_aligned_and_apart():
    """Each value can be written without changing another; values share less than a page of memory."""
    with opened_over(BytesSource(checkpoint(MANY))) as ckpt:
        loaded = ckpt.load()
    for number, value in enumerate(loaded.values()):
        value[...] = number

    assert [set(value.reshape(-1).tolist()) for value in loaded.values()] == [{number} for number in range(90)]
    assert all(value.ctypes.data % 64 == 0 for value in loaded.values())
    assert max(value.base.nbytes for value in loaded.values()) <= 4096 + 64


def test_load_of_many_small_values_sees_edits():
    """Edited parameters, maps that were read, and new names are loaded as they are in memory."""
    with opened_over(BytesSource(checkpoint({**MANY, **MIXED}))) as ckpt:
        ckpt["table"][0][0] = 77
        before = ckpt.load()["table"][0][0]
        ckpt["layer3"].set_data(np.ones(2))
        del ckpt["layer4"]
        ckpt["new"] = np.zeros(1)
        loaded = ckpt.load()

    assert before == 77
    assert (loaded["layer3"].tolist(), "layer4" in loaded, list(loaded)[-1]) == ([1, 1], False, "new")


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_load_gives_names_in_the_order_asked_for(workers, ckpt):
    """The file is still read in its own order."""
    wanted = ["step", "note", "conv1.weight"]
    heard = []
    loaded = ckpt.load(iter(wanted), workers=workers, progress=lambda done, total: heard.append((done, total)))
    total = LAYERS["conv1.weight"].nbytes + LAYERS["step"].nbytes + 52

    assert (list(loaded), heard) == (wanted, [(600, total), (608, total), (660, total)])


def test_load_of_a_missing_name_reads_nothing():
    """The KeyError comes before the first byte is read."""
    source = TracingSource(DATA)
    ckpt = opened_and_traced(source)

    with pytest.raises(KeyError, match="none"):
        ckpt.load(["conv1.weight", "none"])
    assert source.reads == []


def test_load_sees_edits(ckpt):
    """Values set or replaced in memory are copied; deleted ones are absent."""
    mine = np.ones(3)
    ckpt["fc.weight"].set_data([1.0])
    ckpt.update(new=mine, nothing=None, step="done")
    del ckpt["conv1.weight"]
    loaded = ckpt.load()

    assert list(loaded) == [*NAMES[1:], "new", "nothing"]
    assert (loaded["fc.weight"].tolist(), loaded["step"], loaded["nothing"]) == ([1.0], "done", None)
    assert plain(loaded["new"]) == plain(mine)
    assert not np.shares_memory(loaded["new"], mine)


def test_it_shows_what_users_use():
    """The public names are a dict's methods and a checkpoint's own; internals are private."""
    of_a_dict = {name for name in dir(dict) if not name.startswith("_")} - {"fromkeys"}
    own = {"close", "entry", "index", "load", "metadata", "path", "plot", "references", "save", "select", "stats",
           "summary", "to_dask", "to_mindspore", "tree"}  # fmt: skip

    assert {name for name in dir(lazyckpt.Checkpoint) if not name.startswith("_")} == of_a_dict | own


def test_a_notebook_completes_names(ckpt):
    """IPython completes names after `ckpt["`."""
    assert ckpt._ipython_key_completions_() == NAMES


def test_a_checkpoint_is_closed_by_its_context(file):
    """Afterwards every access raises, and the repr says that it is closed."""
    with lazyckpt.load_checkpoint(str(file)) as ckpt:
        assert ckpt.path == str(file)
    looks = [
        lambda: ckpt["step"],
        lambda: ckpt.get("step"),
        lambda: "step" in ckpt,
        lambda: list(ckpt),
        ckpt.load,
        lambda: ckpt.select("conv"),
        lambda: ckpt.pop("step"),
        lambda: ckpt.__setitem__("step", 1),
        lambda: ckpt.__delitem__("step"),
        lambda: ckpt.entry("step"),
    ]
    for look in looks:
        with pytest.raises(ClosedCheckpoint, match=r"net\.ckpt was closed"):
            look()
    assert repr(ckpt) == f"<closed Checkpoint {str(file)!r}>"


def test_closing_twice_is_no_mistake(file):
    """A checkpoint may be closed twice, also after its context."""
    with lazyckpt.load_checkpoint(str(file)) as ckpt:
        ckpt.close()
    ckpt.close()

    assert repr(ckpt).startswith("<closed")


def test_closing_is_optional(file):
    """A garbage-collected checkpoint releases its file and its index."""
    array = lazyckpt.load_checkpoint(str(file))["fc.weight"].asnumpy(copy=True)

    assert plain(array) == plain(MIXED["fc.weight"])


def test_two_checkpoints_of_one_file_do_not_disturb_each_other(file):
    """They share the index's environment; closing one leaves the other open."""
    first, second = lazyckpt.load_checkpoint(str(file)), lazyckpt.load_checkpoint(str(file))
    first.close()

    assert plain(second["fc.weight"]) == plain(MIXED["fc.weight"])
    second.close()


def test_a_checkpoint_survives_the_replacement_of_its_file_and_index(file):
    """A reader of the old version keeps reading it."""
    with lazyckpt.load_checkpoint(str(file)) as old:
        file.with_suffix(".new").write_bytes(checkpoint(LAYERS))
        os.replace(file.with_suffix(".new"), file)
        with lazyckpt.load_checkpoint(str(file)) as new:
            assert (list(new), list(old)) == (list(LAYERS), NAMES)
            assert plain(old["note"]) == MIXED["note"]


def test_a_header_that_was_changed_in_place_is_noticed(file):
    """The file passes for the indexed one by size, time and ends; every read gives what the file has now."""
    values = {"first": counting((2000,)), "one": counting((8,)), "two": counting((8,)) + 1, "last": counting((2000,))}
    data = checkpoint(values)
    file.write_bytes(data)
    before = os.stat(file)
    lazyckpt.build_index(file).close()
    file.write_bytes(data.replace(b"\x0a\x03one", b"\x0a\x03TWO").replace(b"\x0a\x03two", b"\x0a\x03one"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with lazyckpt.load_checkpoint(str(file)) as ckpt:
        for look in (
            lambda name: ckpt[name].asnumpy(),
            lambda name: ckpt[name][:],
            lambda name: ckpt.load([name])[name],
        ):
            assert plain(look("one")) == plain(values["two"])
            with pytest.raises(MissingName, match="'two'"):
                look("two")
        assert plain(ckpt["last"]) == plain(values["last"])


def in_child(task):
    """The exit code of a forked child: 0 if `task` is true, 1 if not, 2 if it raises."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            code = 0 if task() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_reads_on(file):
    """Values, names and a second open work in a child, and afterwards in the parent."""

    def look():
        with lazyckpt.load_checkpoint(str(file)) as again:
            return (
                list(ckpt) == list(again) == NAMES
                and plain(ckpt["fc.weight"]) == plain(again["fc.weight"]) == plain(MIXED["fc.weight"])
                and plain(ckpt["table"]) == plain(MIXED["table"])
            )

    with lazyckpt.load_checkpoint(str(file)) as ckpt:
        assert in_child(look) == 0
        assert look()


def test_many_threads_read_one_checkpoint(file):
    """Sixteen threads over one file see what one sees."""
    with lazyckpt.load_checkpoint(str(file)) as ckpt:
        expected = {name: plain(value) for name, value in MIXED.items()}
        wrong = []

        def look():
            for _ in range(30):
                found = {name: plain(ckpt[name]) for name in ckpt}
                wrong.extend(name for name in expected if found.get(name) != expected[name])

        threads = [threading.Thread(target=look) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert wrong == []


def test_descriptors_do_not_pile_up(file):
    """Two hundred checkpoints, opened, read and closed, leave no descriptor open."""
    lazyckpt.load_checkpoint(str(file)).close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(200):
        with lazyckpt.load_checkpoint(str(file)) as ckpt:
            ckpt["fc.weight"].asnumpy()

    assert len(os.listdir("/proc/self/fd")) == before
