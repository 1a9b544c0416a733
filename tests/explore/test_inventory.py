"""An inventory of headers: counts, offsets and oddities."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from checkpoints import LAYERS, MIXED, array_value, checkpoint, number, tensor_value
from entries import plain, tensor_entry
from generated import damaged_files
from hypothesis import given
from hypothesis import strategies as st

from lazyckpt.errors import CorruptFile
from lazyckpt.explore.inventory import ALIGNMENTS, NAMED, Inventory, Sample, missing_from
from lazyckpt.formats.ckpt import find
from lazyckpt.model.entry import entry_of
from lazyckpt.sources.base import BytesSource


def walked(data):
    """The inventory of a file, and the error that ended the walk, or None."""
    contents = Inventory()
    try:
        contents.take(find(BytesSource(data)))
    except CorruptFile as error:
        return contents, error
    return contents, None


def facts_of(contents):
    """All attributes of an inventory, comparable."""
    facts = vars(contents)
    return {name: (fact.count, fact.first) if isinstance(fact, Sample) else fact for name, fact in facts.items()}


@given(st.lists(st.text(max_size=300), max_size=2 * NAMED))
def test_of_many_the_first_few_are_kept(texts):
    """`Sample` counts all examples, keeps the first few, and cuts long ones."""
    some = Sample()
    for text in texts:
        some.add(text)
    shown = ", ".join(text[:200] + "…" * (len(text) > 200) for text in texts[:NAMED])

    assert (some.count, some.first) == (len(texts), texts[:NAMED])
    assert str(some) == shown + (f" and {len(texts) - NAMED} more" if len(texts) > NAMED else "")


def test_values_are_counted():
    """An inventory counts kinds, dtypes and bytes, and knows the last name and its end."""
    data = checkpoint(MIXED)
    contents, _ = walked(data)

    assert contents.kinds == {"tensor": 5, "string": 2, "map": 1}
    assert contents.dtypes == {"Float32": 2, "Float16": 1, "Int64": 1, "Bool": 1}
    assert (contents.parameters, contents.nbytes, contents.tensors) == (8, 4111, 5)
    assert (contents.last, contents.stop, contents.unowned) == ("table", len(data), 0)


@given(damaged_files())
def test_both_forms_of_what_a_walk_finds_are_counted_alike(data):
    """`Plain` and `Entry` give the same inventory, up to any damage."""
    cheap, whole = Inventory(), Inventory()
    for contents, found in ((cheap, find(BytesSource(data))), (whole, map(entry_of, find(BytesSource(data))))):
        with contextlib.suppress(CorruptFile):
            contents.take(found)

    assert facts_of(cheap) == facts_of(whole)


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 20)), max_size=20))
def test_places_are_counted_by_the_powers_of_two_that_divide_them(tensors):
    """Alignment is counted for tensors that have bytes."""
    contents = Inventory()
    contents.take(plain(tensor_entry(f"w{place}", place, (size,))) for place, size in tensors)
    offsets = [100 * place + 40 for place, size in tensors if size]

    assert contents.tensors == len(offsets)
    assert [contents.aligned[size] for size in ALIGNMENTS] == [
        sum(offset % size == 0 for offset in offsets) for size in ALIGNMENTS
    ]


def test_oddities_are_kept_apart():
    """Refused, replaced, overlong and renamed parameters are listed separately."""
    data = (
        array_value("w", np.ones(2))
        + tensor_value("q", [2], "Float8E4M3FN", b"ab")
        + array_value("x" * 1025, np.ones(1))
        + array_value("w", np.zeros(2))
        + array_value("e.__param_key__1", np.ones(1))
    )
    contents, _ = walked(data)
    found = [contents.refused, contents.replaced, contents.long_names, contents.marked]

    assert [some.count for some in found] == [1, 1, 1, 1]
    assert [str(some)[:17] for some in found] == ["'q' (the dtype 'F", "w", f"'{'x' * 16}", "'e.__param_key__1"]


def test_bytes_between_values_belong_to_none():
    """Bytes between values are counted as unowned; bytes after the last value are not."""
    contents, _ = walked(number(9, 1) + array_value("a", np.ones(1)) + number(9, 300) + array_value("b", np.ones(1)))

    assert contents.unowned == 5
    assert walked(checkpoint(LAYERS) + number(9, 300))[0].unowned == 0


ENDS = [0, *np.cumsum([len(checkpoint({name: value})) for name, value in MIXED.items()]).tolist()]
WHOLE = checkpoint(MIXED)


@given(st.integers(1, len(WHOLE) - 1).filter(lambda cut: cut not in ENDS))
def test_the_last_whole_parameter_of_a_cut_file_is_found(cut):
    """In a file cut anywhere, the last whole parameter and the missing bytes are found."""
    source = BytesSource(WHOLE[:cut])
    contents, _ = walked(WHOLE[:cut])
    before = max(end for end in ENDS if end < cut)
    after = min(end for end in ENDS if end > cut)

    head = 2 if after - before < 130 else 3  # bytes of the tag and the length, without which nothing can be said
    assert contents.stop == before
    assert missing_from(source, contents.stop) == (after - cut if cut - before >= head else 0)


@pytest.mark.parametrize("data", [b"", b"\x0a", b"\x0a\xff", b"\x0d\x01", b"\x0a\x00"])
def test_what_announces_nothing_misses_nothing(data):
    """Without the start of a length-delimited field, no bytes are missing."""
    assert missing_from(BytesSource(data), 0) == 0
