"""Writing tells how far it is, and changes nothing by telling it."""

from __future__ import annotations

from checkpoints import MIXED

from lazyckpt.writing.adapters import item_of
from lazyckpt.writing.counted import Count

ITEMS = [item_of(name, value) for name, value in MIXED.items()]


def test_nobody_is_told_nothing():
    """Without a listener the items are the very ones."""
    assert Count(10, None).of(ITEMS) is ITEMS


def test_what_is_read_is_counted():
    """Each piece adds its bytes, however often the items are walked; all other facts are those of the items."""
    told = []
    total = sum(item.nbytes for item in ITEMS)
    counted = Count(total, lambda *call: told.append(call)).of(ITEMS)
    names = [item.name for item in counted]
    for item, plain in zip(counted, ITEMS, strict=True):
        for content, same in zip(item.contents, plain.contents, strict=True):
            assert b"".join(content.pieces()) == b"".join(same.pieces())
            assert content._replace(pieces=None) == same._replace(pieces=None)

    assert names == list(MIXED)
    assert (len(counted), ITEMS[0] in counted) == (len(ITEMS), True)
    assert told[-1] == (total, total)
