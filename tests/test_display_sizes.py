"""Byte counts for people."""

from __future__ import annotations

import pytest

from lazyckpt.display.sizes import human_size


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
    """However large."""
    assert human_size(count) == text
