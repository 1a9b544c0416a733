"""JSON headers: the fast path and the general parser agree, and large headers take little memory."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors_files import item

from lazyckpt.errors import CorruptFile
from lazyckpt.formats import safetensors_header
from lazyckpt.formats.safetensors_header import LENGTH, Items, item_at, parse

SPACES = st.text(" \t\n\r", max_size=3)
NAMES = st.one_of(st.text(max_size=6), st.sampled_from(["__metadata__", 'a"b', "a\\b", "模型", "\x7f"]))


@st.composite
def items_of_any_form(draw):
    """An item as text: valid or not, usual or not, with spaces anywhere."""
    dtype, shape = (
        draw(st.sampled_from(["F32", "U8", "F4", "F99", "f32"])),
        draw(st.lists(st.integers(0, 3), max_size=3)),
    )
    begin = draw(st.sampled_from([0, 1, 5, 10**18, 2**64 - 1, 2**64]))
    size = {"F32": 32, "U8": 8, "F4": 4}.get(dtype, 8)
    for dim in shape:
        size *= dim
    facts = item(dtype, shape, begin, begin + size // 8 + draw(st.sampled_from([0, 0, 0, 1])))
    if draw(st.booleans()):
        facts = dict(draw(st.permutations(list(facts.items()))))
    name = json.dumps(draw(NAMES), ensure_ascii=draw(st.booleans()))
    text = f"{name}:{json.dumps(facts, separators=(',', ':'))}"
    for mark in "{}[]:,":
        text = text.replace(mark, draw(SPACES) + mark + draw(SPACES))
    return text.strip(" \t\n\r")


def by_the_walk(raw):
    """The items of a header if the fast path takes none."""
    usual = safetensors_header._usual
    safetensors_header._usual = lambda raw, position, items: (position, True)
    try:
        return outcome(raw)
    finally:
        safetensors_header._usual = usual


def outcome(raw):
    """A header's items and metadata, or its fault."""
    try:
        header = parse(raw)
    except CorruptFile as fault:
        return str(fault)
    facts = [(one.name, one.facts.dtype, one.facts.shape, one.start, one.length, one.begin, one.end)
             for one in header.items]  # fmt: skip
    return facts, dict(header.metadata)


@given(st.lists(items_of_any_form(), max_size=4), SPACES, st.sampled_from(["", ",", "}", " x"]))
def test_the_usual_form_is_taken_in_as_the_walk_takes_it(items, space, end):
    """For any header both parsers give the same items and offsets, or the same fault."""
    raw = ("{" + space + f"{space},{space}".join(items) + space + "}" + end).encode("utf-8", "surrogatepass")

    assert outcome(raw) == by_the_walk(raw)


@given(items_of_any_form())
def test_an_item_alone_is_the_one_of_its_header(text):
    """`item_at` reads from an item's bytes what the scan of the header found, offset included."""
    raw = ("{" + text + "}").encode("utf-8", "surrogatepass")
    try:
        (found,) = parse(raw).items
    except (CorruptFile, ValueError):
        return
    again = item_at(raw[found.start - LENGTH : found.start - LENGTH + found.length], found.start)

    assert (again.name, again[2:], again.facts.nbytes) == (found.name, found[2:], found.facts.nbytes)


@pytest.mark.parametrize("rest", [b" ", b",", b"}", b'"a":1'])
def test_an_item_with_something_behind_it_is_none(rest):
    """An item's bytes may contain nothing else."""
    text = b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'

    assert (item_at(text, 9) is None, item_at(text + rest, 9)) == (False, None)


@given(st.lists(st.text(max_size=4), unique=True, max_size=8))
def test_names_are_sorted_as_python_sorts_them(names):
    """Names are sorted by code points, as by MindSpore's `sorted`, and not by encoded bytes."""
    items = Items()
    for place, name in enumerate(names):
        items.add(safetensors_header.Item(name.encode(), safetensors_header.Facts("U8", (0,), 0), 9 + place, 1, 0, 0))

    assert [one.name.decode() for one in items.by_name()] == sorted(names)


def test_a_large_header_takes_little_memory():
    """A header of 20,000 items takes less than 300 bytes an item beyond its own bytes."""
    count = 20_000
    raw = json.dumps({f"layer{n}.weight": item("F32", [2, 2], 16 * n, 16 * n + 16) for n in range(count)}).encode()
    parse(raw[:1] + b"}")
    tracemalloc.start()
    try:
        header = parse(raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (len(header.items), peak < 300 * count) == (count, True)
