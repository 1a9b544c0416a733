"""Selection by prefixes and `choice_func`, with MindSpore's rules."""

from __future__ import annotations

import pytest
from entries import MARK, tensor_entry
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.errors import ArgumentTypeError, ArgumentValueError, ChoiceFunctionFailed
from lazyckpt.index.footer import Meta
from lazyckpt.index.selection import Selection, check_prefix, choose
from lazyckpt.index.store import MemoryStore
from lazyckpt.index.stored import StoredIndex

NAMES = ["conv1.weight", "conv1.bias", "bn.gamma", "conv10.weight", "fc.weight", "BN.gamma", "权重.卷积"]
FILE = "/models/net.ckpt"


def index_of(names):
    """An index of tensors with these names."""
    return StoredIndex(MemoryStore([tensor_entry(name, place) for place, name in enumerate(names)], Meta(MARK)))


def places_of(names):
    """Names with their ordinals."""
    return {name: names.position(name) for name in names}


INDEX = index_of(NAMES)


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        (Selection(), NAMES),
        (Selection(specify=("conv1.",)), NAMES[:2]),
        (Selection(specify=("fc", "bn")), ["bn.gamma", "fc.weight"]),
        (Selection(specify=("conv", "conv1")), ["conv1.weight", "conv1.bias", "conv10.weight"]),
        (Selection(specify=("weight",)), []),
        (Selection(specify=("权重",)), ["权重.卷积"]),
        (Selection(drop=("conv", "bn")), ["fc.weight", "BN.gamma", "权重.卷积"]),
        (Selection(specify=("conv",), drop=("conv10",)), NAMES[:2]),
        (Selection(specify=("bn",), drop=("bn",)), []),
        (Selection(choice=lambda name: name.endswith("gamma")), ["bn.gamma", "BN.gamma"]),
        (Selection(choice=lambda name: "yes" if name.startswith("fc") else None), ["fc.weight"]),
        (Selection(specify=("fc",), choice=lambda name: False), ["fc.weight"]),
        (Selection(drop=("fc",), choice=lambda name: False), [name for name in NAMES if name != "fc.weight"]),
    ],
)
def test_names_are_chosen_as_mindspore_chooses_them(selection, chosen):
    """Prefixes keep, then drop, and bypass `choice_func`; its answer is taken as a bool; case matters."""
    assert places_of(choose(INDEX, selection, FILE)) == {name: NAMES.index(name) for name in chosen}


_name = st.text("ab.", max_size=4)


@given(st.lists(_name, unique=True), st.lists(_name, min_size=1, max_size=3).map(tuple))
def test_prefixes_by_range_choose_what_a_walk_would(names, prefixes):
    """A prefix search in the index gives the names of a full walk, in the same order, each once."""
    index = index_of(names)
    walked = choose(index, Selection(choice=lambda name: name.startswith(prefixes)), FILE)
    found = choose(index, Selection(specify=prefixes), FILE)

    assert list(places_of(found).items()) == list(places_of(walked).items())


def test_a_prefix_alone_walks_over_no_names(monkeypatch):
    """A search by prefix costs as much as its matches."""
    monkeypatch.setattr(StoredIndex, "__iter__", lambda self: pytest.fail("all names were walked"))

    assert list(choose(INDEX, Selection(specify=("conv1.",)), FILE)) == NAMES[:2]


def test_choice_func_is_asked_once_a_name_in_file_order():
    """`choice_func` is called while loading, not when values are read."""
    asked = []
    choose(INDEX, Selection(choice=asked.append), FILE)

    assert asked == NAMES


def test_what_choice_func_raises_is_the_cause():
    """The message has the exception's text, the name, and the file."""
    with pytest.raises(
        ChoiceFunctionFailed, match=r"division by zero\n.*net\.ckpt.*ZeroDivisionError for 'conv1\.weight'"
    ) as caught:
        choose(INDEX, Selection(choice=lambda name: 1 / 0), FILE)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_interrupts_pass_through_choice_func(interrupt):
    """A KeyboardInterrupt in `choice_func` stops the program."""

    def stop(name):
        raise interrupt

    with pytest.raises(interrupt):
        choose(INDEX, Selection(choice=stop), FILE)


@pytest.mark.parametrize("choice", [5, "conv", lambda: True], ids=["a number", "a string", "of no argument"])
def test_what_cannot_be_called_with_a_name_fails_like_a_choice_func_that_raises(choice):
    """As in MindSpore, a ValueError is raised with a TypeError as its cause."""
    with pytest.raises(ChoiceFunctionFailed) as caught:
        choose(INDEX, Selection(choice=choice), FILE)
    assert isinstance(caught.value.__cause__, TypeError)


def test_only_an_empty_selection_keeps_all():
    """An empty selection keeps all names; any argument may exclude some."""
    selections = [Selection(), Selection(specify=("a",)), Selection(drop=("a",)), Selection(choice=bool)]

    assert [selection.keeps_all for selection in selections] == [True, False, False, False]


@pytest.mark.parametrize(
    ("given", "prefixes"), [(None, None), ("a", ("a",)), (["a", "b"], ("a", "b")), (("a",), ("a",)), (" ", (" ",))]
)
def test_prefixes_are_a_string_or_a_list_or_a_tuple(given, prefixes):
    """A string, a list and a tuple all become a tuple."""
    assert check_prefix(given) == prefixes


@pytest.mark.parametrize(
    "wrong", [b"a", {"a"}, {"a": 1}, (name for name in "a"), 0, False, 1.5], ids=lambda wrong: type(wrong).__name__
)
def test_nothing_else_is_a_prefix(wrong):
    """The error names the type."""
    with pytest.raises(ArgumentTypeError, match=f"string.*{type(wrong).__name__}"):
        check_prefix(wrong)


@pytest.mark.parametrize("wrong", [["a", 3], ("a", 3), ["a", None]])
def test_every_prefix_is_a_string(wrong):
    """An element that is not a string is named by its position."""
    with pytest.raises(ArgumentTypeError, match="index 1"):
        check_prefix(wrong)


@pytest.mark.parametrize("wrong", [[], ()])
def test_there_must_be_a_prefix(wrong):
    """An empty list of prefixes is refused."""
    with pytest.raises(ArgumentValueError, match="can't be empty"):
        check_prefix(wrong)


@pytest.mark.parametrize("wrong", ["", [""], ("a", "")])
def test_a_prefix_has_a_letter(wrong):
    """An empty prefix is refused."""
    with pytest.raises(ArgumentValueError, match="can't include ''"):
        check_prefix(wrong)
