"""Runs of small, similar tensors: a check of a run holds for each of its tensors."""

from __future__ import annotations

import numpy as np
import pytest
from checkpoints import checkpoint, counting, tensor_value
from entries import entries_of
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.errors import StaleIndex
from lazyckpt.formats import FORMATS
from lazyckpt.index.open_file import without_index
from lazyckpt.model.dtypes import DTYPES
from lazyckpt.model.tensor_runs import FEWEST, run_of
from lazyckpt.reading.reader import FileReader
from lazyckpt.sources import BytesSource

FORM = FORMATS["ckpt"]
# Five of seven shapes come often enough to be a group; names are of two lengths.
VALUES = {f"layer{number}": counting((min(number % 7, 4) + 1, 5)) + number for number in range(90)}
DATA = checkpoint(VALUES)
ENTRIES = list(FORM.scan(BytesSource(DATA)))
STRETCH = run_of(ENTRIES)


def is_proven(data, entry):
    """Whether a file has the entry at its offset."""
    try:
        FORM.verify_header(BytesSource(data), entry)
    except StaleIndex:
        return False
    return True


def test_a_stretch_is_its_entries():
    """A run holds all its entries in order."""
    assert entries_of(STRETCH) == ENTRIES
    assert STRETCH.names == [entry.name for entry in ENTRIES]
    assert (STRETCH.start, STRETCH.stop) == (0, len(DATA))


def test_a_stretch_knows_the_size_of_each_value():
    """The sizes come in file order."""
    assert STRETCH.sizes() == [value.nbytes for value in VALUES.values()]
    assert STRETCH.stored == sum(value.nbytes for value in VALUES.values())


def test_only_many_are_worth_a_group():
    """Fewer than `FEWEST` tensors stay entries."""
    sizes = [len(uniform.numbers) for uniform in STRETCH.groups]

    assert STRETCH.others
    assert min(sizes) >= FEWEST
    assert sum(sizes) + len(STRETCH.others) == len(ENTRIES)


def test_what_has_another_header_or_name_is_not_alike():
    """In a group only names and offsets differ."""
    for uniform in STRETCH.groups:
        keys = {(e.dtype, e.shape, len(e.name), e.extents[0].offset - e.start) for e in uniform.entries().values()}
        assert len(keys) == 1


@pytest.mark.parametrize("group", STRETCH.groups, ids=lambda uniform: f"{uniform.shape}-{len(uniform.names[0])}")
def test_contents_are_a_copy_of_the_values(group):
    """The contents are one writable array of all values."""
    contents = group.contents(memoryview(DATA), 0)

    assert contents.flags.writeable
    expected = np.stack([VALUES[STRETCH.names[number]] for number in group.numbers])
    np.testing.assert_array_equal(contents, expected, strict=True)


GROUP = STRETCH.groups[0]
OUTSIDE = {
    "before the run": (GROUP, GROUP.starts[0] + 1, len(DATA)),
    "behind the run": (GROUP, 0, GROUP.starts[-1] + GROUP.header + GROUP.length - 1),
    "where no file reaches": (GROUP._replace(starts=[start + 2**62 for start in GROUP.starts]), 0, len(DATA)),
}


@pytest.mark.parametrize(("group", "first", "last"), OUTSIDE.values(), ids=OUTSIDE)
def test_tensors_outside_the_run_have_no_rows(group, first, last):
    """Rows come only from the bytes that were read."""
    run = memoryview(DATA)[first:last]

    assert (group.headers(run, first), group.contents(run, first)) == (None, None)


CHANGES = {
    "the dtype": {"dtype": DTYPES["Int32"]},
    "the shape": {"shape": (5, 1)},
    "a name": {"names": [b"layer!", *GROUP.names[1:]]},
    "the last name": {"names": [*GROUP.names[:-1], b"layer!"]},
    "two names swapped": {"names": [*GROUP.names[1::-1], *GROUP.names[2:]]},
    "a longer header": {"header": GROUP.header + 1, "length": GROUP.length - 1},
    "a place": {"starts": [GROUP.starts[1], *GROUP.starts[1:]]},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_false_claim_is_not_proven(change):
    """A run is refused if any of its tensors differs from the file in anything."""
    assert FORM.matches_uniform(memoryview(DATA), 0, GROUP)
    assert not FORM.matches_uniform(memoryview(DATA), 0, GROUP._replace(**change))


@given(st.data())
def test_what_is_proven_at_once_is_proven_for_each(data):
    """With any header byte changed, a run passes only if each of its tensors passes alone."""
    group = data.draw(st.sampled_from(STRETCH.groups))
    start = data.draw(st.sampled_from(group.starts))
    place = start + data.draw(st.integers(0, group.header - 1))
    changed = bytearray(DATA)
    changed[place] = data.draw(st.integers(0, 255))
    each = all(is_proven(bytes(changed), entry) for entry in group.entries().values())
    at_once = FORM.matches_uniform(memoryview(bytes(changed)), 0, group)

    assert at_once <= each
    if changed == DATA:
        assert at_once


@pytest.mark.parametrize("number", [0, 1, 44, 89])
def test_one_bad_header_among_many_is_reported_by_its_name(number):
    """Tensors with good headers are not reported."""
    entry = ENTRIES[number]
    changed = bytearray(DATA)
    changed[entry.extents[0].offset - 1] ^= 1  # the content's length
    payloads = FileReader(without_index(BytesSource(bytes(changed)), FORM))

    with pytest.raises(StaleIndex) as caught:
        payloads.values(ENTRIES)
    assert caught.value.parameter == entry.name


def test_what_mindspore_would_not_write_is_read_all_the_same():
    """An unusual header that protobuf accepts, among similar ones, is verified by itself."""
    usual = {f"name{number}": counting((4,)) for number in range(10, 40)}
    odd = tensor_value("odd", [4], "Float32", counting((4,)).tobytes(), packed=True)
    source = BytesSource(checkpoint(usual) + odd + checkpoint({"last": counting((4,))}))
    found = FileReader(without_index(source, FORM)).values(list(FORM.scan(source)))

    assert [value.tolist() for value in found] == [counting((4,)).tolist()] * 32
