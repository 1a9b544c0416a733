"""Entries without a file, for tests of code that stores entries and reads no values."""

from __future__ import annotations

from hypothesis import strategies as st

from lazyckpt.index.footer import Meta
from lazyckpt.index.store import MemoryStore
from lazyckpt.index.stored import StoredIndex
from lazyckpt.model.dtypes import DTYPES
from lazyckpt.model.entry import MAP, REFUSED, STRING, TENSOR, Array, Entry, Extent, Fingerprint, Plain

MARK = Fingerprint(123_456, 1_700_000_000_123_456_789, b"0123456789abcdef")
_STRIDE = 100


def tensor_entry(name, place=0, shape=(2, 3), dtype="Float32", **changes):
    """A tensor at an ordinal, with a header of 40 bytes before its payload."""
    start = place * _STRIDE
    length = DTYPES[dtype].itemsize
    for dim in shape:
        length *= dim
    entry = Entry(name, TENSOR, DTYPES[dtype], shape, (Extent(start + 40, length),), start, start + 40 + length)
    return entry._replace(**changes)


def plain(entry):
    """The lightweight form in which the scanner yields a tensor of one piece."""
    ((offset, length),) = entry.extents
    return Plain(entry.name.encode(), entry.dtype, entry.shape, offset, length, entry.start, entry.stop, entry.apart)


def string_entry(name, place=0):
    """A string of four characters."""
    start = place * _STRIDE
    return Entry(name, STRING, None, (), (Extent(start + 40, 16),), start, start + 56)


def map_entry(name, place=0):
    """A map of two rows, with its values in two slices."""
    start = place * _STRIDE
    keys = Array(DTYPES["Int32"], (2,), (Extent(start + 20, 8),))
    values = Array(DTYPES["Float16"], (2, 3), (Extent(start + 40, 6), Extent(start + 60, 6)))
    status = Array(DTYPES["Int32"], (2,), (Extent(start + 80, 8),))
    return Entry(name, MAP, None, (), (), start, start + 90, (keys, values, status))


def refused_entry(name, place=0, reason="the dtype 'Complex64' is unknown"):
    """A parameter that cannot be loaded."""
    start = place * _STRIDE
    return Entry(name, REFUSED, None, (), (), start, start + 50, (), reason)


_names = st.text(st.characters(exclude_categories=["Cs"]), max_size=600)
_dtypes = st.sampled_from(list(DTYPES.values()))
_offsets = st.integers(0, 2**64 - 1)
_extents = st.lists(st.builds(Extent, _offsets, _offsets), max_size=4).map(tuple)
_shapes = st.lists(st.integers(0, 2**63 - 1), max_size=32).map(tuple)
_arrays = st.lists(st.builds(Array, _dtypes, _shapes, _extents), max_size=4).map(tuple)
_none, _nothing, _no_reason = st.none(), st.just(()), st.just("")
_digests = st.sampled_from([b"", bytes(range(32))])


def _entries(kind, dtypes=_none, shapes=_nothing, extents=_nothing, arrays=_nothing, reasons=_no_reason, apart=0):
    return st.builds(
        Entry, _names, st.just(kind), dtypes, shapes, extents, _offsets, _offsets, arrays, reasons, _digests,
        st.integers(min(apart, 1), apart),
    )  # fmt: skip


any_plain = st.builds(
    Plain, _names.map(str.encode), _dtypes, _shapes, _offsets, _offsets, _offsets, _offsets,
    st.one_of(st.just(0), st.integers(1, 2**32 - 1)),
)  # fmt: skip
any_entry = st.one_of(
    _entries(TENSOR, _dtypes, _shapes, _extents).filter(lambda entry: entry.shape or entry.extents),
    _entries(TENSOR, _dtypes, _shapes, _extents, apart=2**32 - 1).filter(lambda entry: entry.shape or entry.extents),
    _entries(STRING, extents=_extents),
    _entries(MAP, arrays=_arrays),
    _entries(REFUSED, reasons=_names),
)


def index_of(entries, **facts):
    """An index in memory of these entries; `facts` override its metadata with false claims."""
    store = MemoryStore(entries, Meta(MARK))
    store.meta = store.meta._replace(**facts)
    return StoredIndex(store)


def entries_of(stretch):
    """The entries from which a run was made, in order."""
    found = dict(stretch.others)
    for alike in stretch.groups:
        found |= alike.entries()
    return [found[number] for number in range(len(stretch.names))]
