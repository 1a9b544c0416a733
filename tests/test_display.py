"""Formatting for display: sizes and printable names."""

from __future__ import annotations

import pytest

from lazyckpt.display import human_size, printable, table_html, without_controls


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


def test_cells_of_a_table_are_cut():
    """Names at 160 characters, sentences and titles at 1,000."""
    page = table_html("t" * 2000, ["name", "why"], [["n" * 2000, "w" * 2000]], prose={"why"})

    assert [f"{letter * most}…" in page for letter, most in (("t", 1000), ("n", 160), ("w", 1000))] == [True] * 3


def test_sentences_are_left_aligned_and_wrap():
    """Their cells have a class of their own, numbers' have none."""
    page = table_html("", ["count", "why"], [["1", "because"]], prose={"why"})

    assert "<th>count</th><th class=s>why</th>" in page
    assert "<td>1</td><td class=s>because</td>" in page
