"""The mapping over a file: it behaves as a dict, and each name has one value, read on first access and then kept."""

from __future__ import annotations

import collections.abc
import contextlib
import copy
import fnmatch
import pickle
import threading

import numpy as np
import pytest
from checkpoints import MIXED, checkpoint
from forging import forged
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from opening import opened_over
from tracing import TracingSource, places

import lazyckpt
from lazyckpt.checkpoint.mapping import StoredValues
from lazyckpt.errors import ClosedCheckpoint, MissingFile, MissingName, StaleIndex
from lazyckpt.formats import FORMATS
from lazyckpt.index.open_file import in_memory
from lazyckpt.index.schema import ORDINAL, PLAIN_CODEC
from lazyckpt.index.selection import AllNames, SomeNames
from lazyckpt.reading.reader import FileReader
from lazyckpt.sources import BytesSource

DATA = checkpoint(MIXED)
NAMES = list(MIXED)
TENSORS = [name for name, value in MIXED.items() if isinstance(value, np.ndarray)]


def stored_over(source):
    """The read-only mapping over a source."""
    file = in_memory(source, FORMATS["ckpt"])
    return StoredValues(FileReader(file), AllNames(file.index))


@pytest.fixture
def stored():
    """The read-only mapping over values of all kinds."""
    return stored_over(BytesSource(DATA))


# The values of the file.


def test_tensors_are_not_read_and_other_values_are_read_once():
    """Of a walk over all values the first reads the strings and maps, and the second nothing."""
    source = TracingSource(DATA)
    stored = stored_over(source)
    others = [stored.entry(name) for name in NAMES if name not in TENSORS]
    looked_at = []
    for _ in range(2):
        source.reads.clear()
        for name in stored:
            stored[name]
        looked_at.append(source.looked_at())

    assert looked_at == [places([(entry.start, entry.stop - entry.start) for entry in others]), set()]


def test_a_walk_over_entries_gives_what_look_ups_give(stored):
    """Of the whole file in its order, and of some names in theirs."""
    some = stored.narrow(SomeNames({name: NAMES.index(name) for name in ("step", "conv1.weight")}))

    assert list(stored.iter_entries()) == [(name, stored.entry(name)) for name in NAMES]
    assert list(some.iter_entries()) == [(name, stored.entry(name)) for name in ("step", "conv1.weight")]


def test_a_narrow_mapping_shares_the_values(stored):
    """A value is the same object whichever of the two is asked first."""
    narrow = stored.narrow(SomeNames({"step": NAMES.index("step"), "note": NAMES.index("note")}))

    assert stored["step"] is narrow["step"]
    assert narrow["note"] is stored["note"]


def test_a_kept_value_is_not_seen_under_a_name_that_is_out_of_sight(stored):
    """The cache is shared, the names are not."""
    stored["fc.weight"]
    narrow = stored.narrow(SomeNames({"step": NAMES.index("step")}))

    assert (list(narrow), len(narrow), "fc.weight" in narrow) == (["step"], 1, False)
    for look in (narrow.__getitem__, narrow.entry):
        with pytest.raises(KeyError):
            look("fc.weight")


def test_only_values_that_may_differ_from_the_files_are_in_memory(stored):
    """Strings and maps that were read, and parameters whose values were replaced: a writer asks for these."""
    before = [stored.in_memory(name) for name in NAMES]
    for name in NAMES:
        stored[name]
    stored["step"].set_data(np.zeros(()))

    assert before == [None] * len(NAMES)
    assert [name for name in NAMES if stored.in_memory(name) is not None] == ["step", "note", "empty", "table"]


@pytest.mark.parametrize(
    ("change", "whole"),
    [
        (lambda stored: stored, True),
        (lambda stored: stored.narrow(), True),
        (lambda stored: stored.narrow(SomeNames({"step": NAMES.index("step")})), False),
        (lambda stored: stored["step"].set_data(np.zeros(())) or stored, False),
    ],
    ids=["as opened", "narrowed to the same", "narrowed to some", "replaced"],
)
def test_it_is_whole_while_all_names_are_seen_and_no_value_is_replaced(change, whole, stored):
    """Then a copy of the file is what it would be saved as."""
    assert change(stored).is_whole is whole


def test_a_deep_copy_keeps_what_was_replaced_apart(stored):
    """The copy has the replaced values; what is replaced later shows in one of the two only."""
    stored["step"].set_data(np.full((), 5))
    other = copy.deepcopy(stored)
    other["step"].set_data(np.full((), 6))

    assert list(other.replaced_parameters()) == ["step"]
    assert (int(stored["step"].asnumpy()), int(other["step"].asnumpy())) == (5, 6)


def test_a_closed_mapping_gives_no_kept_value(stored):
    """Neither by name nor in a walk, although it would need no byte of the file."""
    stored["step"]
    stored.close()

    for look in (lambda: stored["step"], lambda: list(stored), lambda: "step" in stored, stored.iter_entries):
        with pytest.raises(ClosedCheckpoint):
            look()


def test_an_unknown_attribute_is_an_attribute_error(stored):
    """The attributes that open an unpickled file late are three, and a misspelt one is none of them."""
    with pytest.raises(AttributeError, match="sorce"):
        _ = stored.sorce


# The mapping with edits.


def test_a_pickle_holds_the_edits_in_their_order(file):
    """Removed and replaced names, added ones behind them, and values that `set_data` replaced."""
    with lazyckpt.load_checkpoint(str(file)) as ckpt:
        ckpt["new"] = 1
        ckpt["conv1.bias"] = "replaced"
        ckpt["step"].set_data(np.full((), 5))
        del ckpt["fc.weight"]
        names = list(ckpt)
        sent = pickle.dumps(ckpt)
    received = pickle.loads(sent)

    assert list(received) == names
    assert (received["new"], received["conv1.bias"], int(received["step"].asnumpy())) == (1, "replaced", 5)


def test_a_pickle_of_a_selection_gives_its_names(file):
    """And refuses those that it did not see."""
    with lazyckpt.load_checkpoint(str(file)) as ckpt:
        received = pickle.loads(pickle.dumps(ckpt.select("conv1.")))

    assert (list(received), "step" in received) == (["conv1.weight", "conv1.bias"], False)


def test_an_unpickled_mapping_opens_its_file_late(file):
    """Unpickling needs no file; the first look does."""
    with lazyckpt.load_checkpoint(str(file), index="memory") as ckpt:
        sent = pickle.dumps(ckpt)
    file.unlink()
    received = pickle.loads(sent)

    with pytest.raises(MissingFile):
        len(received)


def test_a_copy_has_edits_of_its_own(ckpt):
    """Shallow or deep, edits so far are in both, later ones in one."""
    ckpt["new"] = [1]
    shallow, deep = copy.copy(ckpt), copy.deepcopy(ckpt)
    ckpt["later"] = 2
    ckpt["new"].append(2)

    assert (type(shallow), list(shallow), list(deep)) == (type(ckpt), [*NAMES, "new"], [*NAMES, "new"])
    assert (shallow["new"], deep["new"]) == ([1, 2], [1])


def test_cleared_names_are_gone_from_the_mapping_alone(ckpt):
    """A copy made before has them; the entry of a cleared name is a KeyError."""
    before = ckpt.copy()
    ckpt.clear()

    assert (len(ckpt), list(ckpt), list(before)) == (0, [], NAMES)
    with pytest.raises(KeyError):
        ckpt.entry("step")


def test_the_entry_of_a_removed_name_is_a_key_error(ckpt):
    """The facts of a replaced one are still those of the file."""
    entry = ckpt.entry("step")
    ckpt["step"] = 1
    del ckpt["note"]

    assert ckpt.entry("step") == entry
    with pytest.raises(KeyError):
        ckpt.entry("note")


def test_it_is_a_mutable_mapping(ckpt):
    """By type, so that code which asks for one takes it."""
    assert isinstance(ckpt, collections.abc.MutableMapping)


def test_a_name_gives_the_same_object_each_time(ckpt):
    """As a dict does: by index, by view, in a selection and in a copy; so what is set on it stays."""
    for name in NAMES:
        assert ckpt[name] is ckpt[name]
        assert ckpt[name] is dict(ckpt.items())[name]
        assert ckpt[name] is ckpt.select(name)[name]
        assert ckpt[name] is ckpt.copy()[name]


def test_threads_get_the_same_object(ckpt):
    """Two threads that ask for a name at once do not get two parameters."""
    seen = []
    barrier = threading.Barrier(8)

    def look():
        barrier.wait()
        seen.append([ckpt[name] for name in TENSORS])

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({tuple(map(id, values)) for values in seen}) == 1


@pytest.mark.parametrize(
    "name", ["none", "conv", "", "conv1.weight ", "\ud800", None, 0, 1.5, b"note", ("note",)], ids=repr
)
def test_what_is_not_a_name_is_a_key_error(name, ckpt):
    """As in a dict of strings, whatever the type of what was asked for."""
    assert name not in ckpt
    assert ckpt.get(name, "default") == "default"
    for look in (ckpt.__getitem__, ckpt.__delitem__, ckpt.pop, ckpt.entry):
        with pytest.raises(MissingName):
            look(name)


def test_a_typo_brings_similar_names(ckpt):
    """The message of the KeyError offers names of the mapping as it is now, also after it was closed."""
    ckpt["scale.factor"] = 1
    del ckpt["conv1.weight"]
    with pytest.raises(KeyError) as added:
        ckpt["scale.fctor"]
    with pytest.raises(KeyError) as removed:
        ckpt["conv1.wieght"]
    messages = [str(added.value), str(removed.value)]
    with pytest.raises(KeyError) as closed, ckpt:
        ckpt.entry("conv1.bais")

    assert messages[0] == "there is no parameter 'scale.fctor'; did you mean 'scale.factor'?"
    assert "'conv1.weight'" not in messages[1]
    assert str(closed.value).startswith("there is no parameter 'conv1.bais'; did you mean 'conv1.bias'")


def test_asking_for_a_name_that_does_not_exist_walks_over_no_names(ckpt, monkeypatch):
    """`get`, `in`, `pop` with a default, and a caught KeyError cost a look-up."""
    monkeypatch.setattr(AllNames, "__iter__", lambda self: pytest.fail("all names were walked"))
    with contextlib.suppress(KeyError):
        ckpt["conv1.wieght"]

    assert (ckpt.get("none"), "none" in ckpt, ckpt.pop("none", 3)) == (None, False, 3)


@pytest.mark.parametrize("name", [None, 0, b"note", ("note",)], ids=repr)
def test_names_are_strings(name, ckpt):
    """A value cannot be set under anything else: MindSpore would not take it."""
    with pytest.raises(TypeError, match=type(name).__name__):
        ckpt[name] = "value"


def test_a_renamed_parameter_comes_last_and_keeps_its_value(ckpt):
    """Renaming is popping and setting, as in a dict."""
    value = ckpt.pop("conv1.weight")
    ckpt["backbone.conv1.weight"] = value

    assert list(ckpt) == [*NAMES[1:], "backbone.conv1.weight"]
    assert ckpt["backbone.conv1.weight"] is value


class DictMachine(RuleBasedStateMachine):
    """Whatever is done to a checkpoint and to a dict of its items, both hold the same in the same order."""

    names = st.sampled_from([*NAMES, "new", "newer", ""])
    values = st.integers() | st.none()

    @initialize()
    def open(self):
        """Begin with a checkpoint of a file, and the dict that MindSpore would give."""
        self.ckpt = opened_over(BytesSource(DATA))
        self.dict = dict(self.ckpt)

    def both(self, act):
        """Do the same to both, and compare what comes out."""
        outcomes = []
        for mapping in (self.ckpt, self.dict):
            try:
                outcomes.append(("value", act(mapping)))
            except KeyError:
                outcomes.append(("missing", None))
        assert outcomes[0] == outcomes[1]

    @rule(name=names, value=values)
    def set(self, name, value):
        """Old names keep their place."""
        self.both(lambda mapping: mapping.__setitem__(name, value))

    @rule(name=names)
    def delete(self, name):
        """A name may be deleted and set again; then it comes last."""
        self.both(lambda mapping: mapping.__delitem__(name))

    @rule(name=names)
    def pop(self, name):
        """Popping gives the value."""
        self.both(lambda mapping: mapping.pop(name))

    @rule(name=names)
    def pop_with_default(self, name):
        """Or the default."""
        self.both(lambda mapping: mapping.pop(name, 7))

    @rule()
    def popitem(self):
        """The last item goes first."""
        self.both(lambda mapping: mapping.popitem())

    @rule(name=names, value=values)
    def setdefault(self, name, value):
        """Set only what is not there."""
        self.both(lambda mapping: mapping.setdefault(name, value))

    @rule(items=st.dictionaries(names, values, max_size=3))
    def update(self, items):
        """Many at once."""
        self.both(lambda mapping: mapping.update(items))

    @rule(items=st.dictionaries(names, values, max_size=3))
    def merge(self, items):
        """`|` makes a new mapping, which is used from here on."""
        self.ckpt, self.dict = self.ckpt | items, self.dict | items

    @rule(items=st.dictionaries(names, values, max_size=3))
    def merge_in_place(self, items):
        """`|=` changes the mapping itself."""
        self.ckpt |= items
        self.dict |= items

    @rule(name=names)
    def go_on_with_a_copy(self, name):
        """A copy has edits of its own: what happens to the original does not show."""
        original, self.ckpt, self.dict = self.ckpt, self.ckpt.copy(), self.dict.copy()
        original.pop(name, None)
        original["only there"] = 1

    def narrow(self, pattern, keep):
        """A selection goes on from the edits so far; if nothing is left, it is refused."""
        left = {name: value for name, value in self.dict.items() if keep(name)}
        if left:
            self.ckpt, self.dict = self.ckpt.select(pattern), left
        else:
            with pytest.raises(MissingName):
                self.ckpt.select(pattern)

    @rule(prefix=st.sampled_from(["", "conv", "n", "zzz"]))
    def select(self, prefix):
        """A selection by a prefix, unless it is a name."""
        self.narrow(prefix, lambda name: name == prefix if prefix in self.dict else name.startswith(prefix))

    @rule(glob=st.sampled_from(["*", "*.w*", "[cn]*", "?*"]))
    def select_by_glob(self, glob):
        """And one by a glob, as one of several patterns."""
        self.narrow([glob], lambda name: fnmatch.fnmatchcase(name, glob))

    @rule(letter=st.sampled_from("ew."))
    def select_by_function(self, letter):
        """And so does one by a function."""
        self.narrow(lambda name: letter in name, lambda name: letter in name)

    @rule()
    def clear(self):
        """Nothing is left."""
        self.both(lambda mapping: mapping.clear())

    @invariant()
    def they_are_alike(self):
        """Items, order, length, membership, the reverse, and equality."""
        assert list(self.ckpt.items()) == list(self.dict.items())
        assert list(self.ckpt.keys()) == list(self.dict)
        assert list(reversed(self.ckpt)) == list(reversed(self.dict))
        assert (len(self.ckpt), bool(self.ckpt)) == (len(self.dict), bool(self.dict))
        assert {name for name in [*NAMES, "new", "newer", ""] if name in self.ckpt} == set(self.dict)
        assert self.ckpt == self.dict

    @invariant()
    def the_repr_is_the_dicts(self):
        """Every value has been looked at here, so not even a string is only described."""
        assert repr(self.ckpt) == repr(self.dict)


TestAgainstADict = DictMachine.TestCase


@pytest.mark.parametrize("chosen", [None, "conv"])
def test_items_and_values_are_what_look_ups_give(chosen, ckpt):
    """The same objects in the same order, edits included, of a whole file and of a selection."""
    seen = ckpt if chosen is None else ckpt.select(chosen)
    first = next(iter(seen))
    del seen[first]
    seen[next(iter(seen))] = seen["new"] = np.ones(2)
    items, values = list(seen.items()), list(seen.values())

    assert [name for name, _ in items] == list(seen)
    assert all(value is seen[name] for name, value in items)
    assert list(map(id, values)) == [id(seen[name]) for name in seen]


def test_a_forged_index_gives_no_other_tensors_bytes(file):
    """A name that leads to another's record, sound in itself, is refused by every way of looking at it."""
    lazyckpt.build_index(file).close()
    sidecar = f"{file}.lmdb"
    with forged(sidecar) as transaction:
        transaction.put(PLAIN_CODEC.name_key(b"conv1.weight"), ORDINAL.pack(NAMES.index("fc.weight")))
    with lazyckpt.load_checkpoint(str(file)) as ckpt:
        for look in (
            lambda: ckpt["conv1.weight"],
            lambda: ckpt.entry("conv1.weight"),
            lambda: ckpt.load(["conv1.weight"]),
            lambda: ckpt.select("conv1.weight")["conv1.weight"],
        ):
            with pytest.raises(StaleIndex, match=r"another.*'conv1\.weight'"):
                look()
