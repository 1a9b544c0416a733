"""The tests named in the documents on reliability and security exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "docs" / name for name in ("reliability.md", "security.md")]
TEXTS = [path.read_text(encoding="utf-8") for path in DOCUMENTS]
NAMED = sorted({found for text in TEXTS for found in re.findall(r"tests/[\w/]+(?:\.py(?:::\w+)?)?", text)})


@pytest.mark.parametrize("named", NAMED)
def test_every_test_that_is_named_is_there(named):
    """A named file, folder or test function exists."""
    file, _, function = named.partition("::")
    path = ROOT / file

    assert path.exists()
    assert not function or function in {
        node.name for node in ast.parse(path.read_text()).body if "name" in node._fields
    }


@pytest.mark.parametrize(("title", "least"), [("Checks", 8), ("Differences from MindSpore", 10)])
def test_every_row_of_a_table_has_a_test(title, least):
    """Every row of the table names a test."""
    table = TEXTS[0].partition(f"## {title}")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]

    assert len(rows) >= least
    assert [row for row in rows if "tests/" not in row.split("|")[3]] == []
