"""Totals of records counted by name pattern equal those of the decoded entries."""

from __future__ import annotations

import re

import numpy as np
import pytest
from checkpoints import LAYERS, MIXED, array_value, checkpoint, sliced_value
from hypothesis import given
from hypothesis import strategies as st
from opening import opened_over
from safetensors.numpy import save_file

import lazyckpt
from lazyckpt.index.name_groups import groups_in, tally
from lazyckpt.index.records import BadRecord
from lazyckpt.sources.base import BytesSource

NAMES = st.text("a.0129β", min_size=1, max_size=9)
SHAPES = st.sampled_from([(), (3,), (2, 5), (1, 2, 3)])
DTYPES = st.sampled_from(["float32", "int8", "bool", "float64"])


def index_of(data):
    """The index of a file's bytes."""
    return opened_over(BytesSource(data)).index


def totals(groups):
    """Parameters and bytes of all groups."""
    return sum(group.amount for group in groups), sum(group.nbytes for group in groups)


def by_hand(entries):
    """The same groups, computed from entries."""
    entries = list(entries)
    return len(entries), sum(entry.nbytes for entry in entries)


@given(st.dictionaries(NAMES, st.tuples(SHAPES, DTYPES), max_size=30), st.sampled_from([3, 20_000]))
def test_totals_are_exact_however_much_is_summarised(values, most):
    """Counts and sizes equal the decoded entries'; only differing dtypes exceed the requested number of groups."""
    index = index_of(checkpoint({name: np.zeros(shape, dtype) for name, (shape, dtype) in values.items()}))
    groups = groups_in(index._record_batches(), most)

    assert totals(groups) == by_hand(index.entries())
    assert len(groups) <= max(most, len({dtype for _, dtype in values.values()}))


@given(st.dictionaries(NAMES, st.tuples(SHAPES, DTYPES), max_size=30))
def test_groups_are_names_that_differ_in_numbers_only(values):
    """Each group holds all entries with its pattern, dtype and shape."""
    index = index_of(checkpoint({name: np.zeros(shape, dtype) for name, (shape, dtype) in values.items()}))
    expected = {}
    for entry in index.entries():
        key = (re.sub("[0-9]+", "*", entry.name), entry.dtype, entry.shape)
        expected[key] = expected.get(key, 0) + 1

    assert {(group.name, group.dtype, group.shape): group.amount for group in tally(index)} == expected


def test_values_of_every_kind_are_counted():
    """Strings, maps and values in several pieces are counted, too."""
    index = index_of(checkpoint(MIXED) + sliced_value("big.7", np.zeros(100, "float32"), [40, 80]))

    assert totals(tally(index)) == by_hand(index.entries())
    assert {group.name: group.kind for group in tally(index)}.items() >= {
        "note": "string", "table": "map", "big.*": "tensor"}.items()  # fmt: skip


def test_digests_and_headers_that_stand_apart_are_passed_over(tmp_path):
    """Names are found after digests and separate headers."""
    (tmp_path / "x.ckpt").write_bytes(checkpoint(LAYERS))
    save_file(LAYERS, tmp_path / "x.safetensors")
    found = []
    for name, digest in (("x.ckpt", "blake2b"), ("x.safetensors", None)):
        index = lazyckpt.build_index(tmp_path / name, digest=digest)
        found.append(({group.name for group in tally(index)}, totals(tally(index)) == by_hand(index.entries())))
        index.close()

    assert found == [({re.sub("[0-9]", "*", name) for name in LAYERS}, True)] * 2


def test_some_places_only():
    """Only chosen places count, without the excluded ones."""
    index = index_of(checkpoint({f"w{i}": np.zeros(i + 1, "int8") for i in range(10)}))

    assert totals(tally(index, only={2, 3, 4}, without={3})) == (2, 3 + 5)
    assert totals(tally(index, without={0})) == (9, 54)


def test_many_kinds_become_few():
    """Names without numbers are cut at their dots, the last ones first."""
    words = [f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh"]
    index = index_of(b"".join(array_value(f"net.{a}.{b}.w", np.zeros(1, "int8")) for a in words for b in words[:9]))
    groups = groups_in(index._record_batches(), 100)

    assert [group.name for group in groups][:2] == ["net.aa.…", "net.ab.…"]
    assert (len(groups), totals(groups)) == (64, (576, 576))


def test_an_invalid_record_is_reported():
    """The index is reported as damaged."""
    with pytest.raises(BadRecord):
        groups_in([[b"\0\x0b\x02"]])
    with pytest.raises(BadRecord):
        groups_in([[b"\0\xfe\0\0\1\0\0\0" + bytes(40)]])
