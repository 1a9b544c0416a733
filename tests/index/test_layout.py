"""The keys of a sidecar: so ordered that it is written in one ascending sweep."""

from __future__ import annotations

from lazyckpt.index.layout import FACTS, FRAMES, IRREGULAR, NAMES, PLACE, record_key


def test_record_keys_sort_by_place():
    """As bytes, as far as places go."""
    keys = [record_key(place) for place in (0, 1, 255, 256, 65_535, 65_536, 2**32 - 1)]

    assert sorted(keys) == keys


def test_kinds_of_keys_follow_each_other():
    """Records, names, places to look at, facts, frames: none mingles with another."""
    keys = [record_key(2**32 - 1), NAMES, NAMES + b"\xff" * 400, IRREGULAR + PLACE.pack(2**32 - 1), FACTS, FRAMES]

    assert sorted(keys) == keys
