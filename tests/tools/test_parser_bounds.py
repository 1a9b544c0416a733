"""tools/parser_bounds.py: memory of hostile files, measured and held."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "parser_bounds.py"
LINE = r"ckpt, many dims, (memory|auto): 0\.1 MB: +[\d.]+ B, +[\d.]+ s \(CorruptFile: .*\)"


def test_a_specimen_is_measured(tmp_path):
    """One line for each index gives bytes of memory for each byte, seconds for each MB, and how reading ended."""
    command = [sys.executable, str(TOOL), "--only", "ckpt:many dims", "--sizes", "0.1", "--repeat", "1"]
    ended = subprocess.run([*command, "--folder", str(tmp_path)], capture_output=True, encoding="utf-8", check=False)
    *lines, verdict = ended.stdout.splitlines()

    assert (ended.stderr, len(lines)) == ("", 2)
    assert all(re.match(LINE, line) for line in lines), ended.stdout
    assert verdict in (
        "every parser keeps its bound",
        "1 specimens exceed their bound",
        "2 specimens exceed their bound",
    )


@pytest.fixture
def tool(monkeypatch):
    """The tool as a module."""
    monkeypatch.syspath_prepend(str(TOOL.parent))
    import parser_bounds

    return parser_bounds


def test_what_exceeds_a_bound_is_a_fault(tool):
    """Memory, time, growth and errors that are not the package's are faults; what is within the bound is none."""
    small, large = tool.Cost(10**6, 10**6, 0.1, "read"), tool.Cost(4 * 10**6, 4 * 10**6, 0.4, "read")

    def faults(**changed):
        return tool.Row("ckpt", "a name", "memory", [small, large._replace(**changed)]).faults(tool.CKPT)

    assert faults() == []
    assert faults(memory=10**8) == ["25.0 bytes for each byte"]
    assert faults(seconds=4.0) == ["1.00 s for each MB", "not linear"]
    assert faults(ended="raw KeyError: 'x'") == ["raw KeyError: 'x'"]


def test_every_specimen_can_be_made(tool):
    """Specimens have about the size that was asked for, and are not all alike."""
    for kind, specimens in tool.SPECIMENS.items():
        made = [make(20_000) for make in specimens.values()]
        assert len({*made}) == len(made), kind
        assert all(1_000 < len(data) < 200_000 for data in made), kind
