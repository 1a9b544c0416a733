"""Detection of sequential access in a file of blocks."""

from __future__ import annotations

import pytest

from lazyckpt.sources.encryption.frames import Frame
from lazyckpt.sources.encryption.read_ahead import NOWHERE, place_in

FRAMES = [Frame(number * 100, 100, 0, 0, b"", b"") for number in range(9)]


def after(*reads):
    """The read position after reads, as (begin, end)."""
    place = NOWHERE
    for _, end in reads:
        number = (end - 1) // 100
        place = place_in(number, FRAMES[number], end)
    return place


STEPS = {
    "the very first read": ([], (0, 30), False),
    "a first read of the second block": ([], (100, 130), False),
    "past the middle of a block": ([(200, 230)], (230, 260), True),
    "not yet past it": ([(200, 220)], (220, 240), False),
    "past it already": ([(200, 230), (230, 260)], (260, 280), False),
    "into the next block": ([(200, 290)], (300, 310), True),
    "over the border of the next": ([(200, 290)], (290, 310), True),
    "back into the same block": ([(200, 290)], (200, 290), False),
    "from the second half to the first": ([(200, 290)], (210, 220), False),
    "two blocks on": ([(200, 290)], (410, 420), False),
    "to the block before": ([(200, 290)], (150, 160), False),
    "over many blocks": ([(200, 290)], (290, 800), False),
    "from before the block that was read, over it": ([(200, 290)], (150, 310), False),
}


@pytest.mark.parametrize(("reads", "read", "walks"), STEPS.values(), ids=STEPS)
def test_what_leads_on(reads, read, walks):
    """A read that continues in the next block, or passes the middle of the last one."""
    begin, end = read

    assert after(*reads).leads_to(begin // 100, begin, (end - 1) // 100, end) == walks
