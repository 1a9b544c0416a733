"""The layout of a sidecar: keys and codecs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.index.schema import FACTS, FRAMES, IRREGULAR, LONGEST_PLAIN_NAME, NAMES, ORDINAL, PLAIN_CODEC, record_key

LMDB_LIMIT = 511
_start = st.sampled_from([b"", b"x" * 398, b"x" * 400, b"x" * 401, b"\xff" * 400])
_names = st.builds(bytes.__add__, _start, st.binary(max_size=60))


@given(_names, _names)
def test_different_names_have_different_keys(one, other):
    """Different names have different keys, however similar or long they are."""
    assert (PLAIN_CODEC.name_key(one) == PLAIN_CODEC.name_key(other)) == (one == other)


@given(_names)
def test_a_key_fits_lmdb_and_begins_as_its_name(name):
    """Keys are truncated to LMDB's limit; up to there they equal the name."""
    key = PLAIN_CODEC.name_key(name)

    assert len(key) <= LMDB_LIMIT
    assert key[1 : 1 + LONGEST_PLAIN_NAME] == name[:LONGEST_PLAIN_NAME]


@given(st.lists(st.binary(max_size=LONGEST_PLAIN_NAME), max_size=6))
def test_keys_sort_as_names_do(names):
    """Keys sort as names do, so that a prefix is a range of keys."""
    assert sorted(names) == sorted(names, key=PLAIN_CODEC.name_key)


def test_values_are_as_they_are():
    """The plain codec leaves values unchanged."""
    assert (PLAIN_CODEC.seal(b"key", b"value"), PLAIN_CODEC.unseal(b"key", b"value")) == (b"value", b"value")


def test_record_keys_sort_by_place():
    """Record keys sort by place as bytes, for all valid places."""
    keys = [record_key(place) for place in (0, 1, 255, 256, 65_535, 65_536, 2**32 - 1)]

    assert sorted(keys) == keys


def test_kinds_of_keys_follow_each_other():
    """Keys of records, names, irregular ordinals, facts and frames do not interleave."""
    keys = [record_key(2**32 - 1), NAMES, NAMES + b"\xff" * 400, IRREGULAR + ORDINAL.pack(2**32 - 1), FACTS, FRAMES]

    assert sorted(keys) == keys
