"""Formatting for display: sizes and printable names."""

from __future__ import annotations

import pytest

from lazyckpt.display import human_size, printable, without_controls


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
    """A table escapes all control characters; text that MindSpore prints as it is keeps tabs and line ends."""
    assert (printable(name), without_controls(name)) == (alone, among_others)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (10_240, "10.0 KiB"),
        (123_456, "121 KiB"),
        (2**20 * 5 // 2, "2.5 MiB"),
        (10**12, "931 GiB"),
        (2**60, "1,024 PiB"),
    ],
)
def test_sizes_have_about_three_digits_and_a_binary_unit(count, text):
    """Sizes of any magnitude are short."""
    assert human_size(count) == text
