"""Names where people look."""

from __future__ import annotations

import pytest

from lazyckpt.display.names import printable, without_controls


@pytest.mark.parametrize(
    ("name", "alone", "among_others"),
    [
        ("conv1.weight", "conv1.weight", "conv1.weight"),
        ("权重.é", "权重.é", "权重.é"),
        ("a\tb\n", r"a\tb\n", "a\tb\n"),
        ("a\rb\0", r"a\rb\x00", r"a\rb\x00"),
        ("\x1b[2J", r"\x1b[2J", r"\x1b[2J"),
        ("a\u202eb", r"a\u202eb", r"a\u202eb"),
    ],
)
def test_control_characters_are_escaped(name, alone, among_others):
    """All of them in a table; where MindSpore shows names as they are, all but tabs and line ends."""
    assert (printable(name), without_controls(name)) == (alone, among_others)
