"""Names in columns have the ordinals that a dict would give them."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.index.name_table import ByteStrings, NameTable

NAMES = st.lists(st.lists(st.binary(max_size=3), max_size=30), max_size=6)


class Alike(bytes):
    """Bytes whose hash is that of any other."""

    __slots__ = ()

    def __hash__(self):
        return 7

    __eq__ = bytes.__eq__


def expected_of(runs):
    """The ordinals by a dict: of each run, and of each name in the end."""
    known = {}
    return [[known.setdefault(name, len(known)) for name in run] for run in runs], known


@given(NAMES)
def test_names_get_the_ordinals_of_a_dict(runs):
    """A new name gets the next ordinal, a known one its own, also within a run."""
    table = NameTable()
    expected, known = expected_of(runs)

    assert [table.add(run) for run in runs] == expected
    assert (len(table), list(table)) == (len(known), list(known))
    assert [table.get(name) for name in known] == list(known.values())
    assert table.ordinals(list(known)) == list(known.values())
    assert table.get(b"a name of no run") is None


def test_names_of_one_hash_are_told_apart_by_their_bytes():
    """Names that collide keep their own ordinals."""
    table = NameTable()
    names = [Alike(b"%d" % number) for number in range(50)]

    assert (table.add(names), table.add(names[::-1])) == ([*range(50)], [*range(49, -1, -1)])
    assert [table.get(name) for name in names] == list(range(50))
    assert table.get(Alike(b"another")) is None


def test_a_table_grows():
    """A hundred thousand names are found, and take less than fifty bytes each."""
    tracemalloc.start()
    table = NameTable()
    for first in range(0, 100_000, 4000):
        table.add([b"%05d" % number for number in range(first, first + 4000)])
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert [table.get(b"%05d" % number) for number in range(0, 100_000, 999)] == list(range(0, 100_000, 999))
    assert taken < 50 * 100_000


@given(st.lists(st.lists(st.binary(max_size=5))), st.data())
def test_byte_strings_are_a_list(runs, data):
    """Strings can be appended, replaced, and read one by one or in ranges."""
    strings, expected = ByteStrings(), []
    for run in runs:
        strings.extend(run)
        expected += run
    if expected:
        place = data.draw(st.integers(0, len(expected) - 1))
        strings[place] = expected[place] = b"another"
    first, last = data.draw(st.integers(0, 20)), data.draw(st.integers(0, 20))

    assert (len(strings), list(strings), strings[first:last]) == (len(expected), expected, expected[first:last])
