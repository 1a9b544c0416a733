"""`Statistics`: a sequence of rows that prints, sorts and exports."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import stat

import numpy as np
import pytest
from checkpoints import counting
from hypothesis import example, given
from hypothesis import strategies as st
from measured_values import VALUES
from rich.console import Console

import lazyckpt
from lazyckpt.errors import ArgumentValueError, FileInTheWay, FolderInTheWay, MissingFolder
from lazyckpt.statistics.moments import measure
from lazyckpt.statistics.table import COLUMNS, PRINTED, SHOWN, Row, Statistics


def test_sorting_puts_the_largest_first_and_what_has_no_number_last(open_values):
    """Text sorts ascending; an unknown column raises an error."""
    with open_values({**VALUES, "note": "x"}) as ckpt:
        table = ckpt.stats()

    assert [row.name for row in table.sort("max")] == ["b", "a", "flags", "empty", "note"]
    assert [row.name for row in table.sort("max", descending=False)][:3] == ["flags", "a", "b"]
    assert [row.name for row in table.sort("name")] == ["a", "b", "empty", "flags", "note"]
    with pytest.raises(ArgumentValueError, match="one of name, dtype"):
        table.sort("size")


def test_plain_data(open_values):
    """Dictionaries by name, with None for absent statistics."""
    with open_values(VALUES) as ckpt:
        found = ckpt.stats().to_dict()

    assert found["a"]["norm"] == pytest.approx(math.sqrt(30))
    assert (found["b"]["min"], found["b"]["max"], found["b"]["mean"], found["b"]["nan"]) == (0, math.inf, 1, 1)
    assert (found["flags"]["min"], found["flags"]["max"], found["flags"]["zeros"]) == (0, 1, 1)
    assert (found["empty"]["count"], found["empty"]["min"], found["empty"]["std"]) == (0, None, None)


def test_csv_and_json_can_be_read_back(open_values, tmp_path):
    """The text can be parsed by the standard library, and a file has the same text."""
    with open_values(VALUES) as ckpt:
        table = ckpt.stats()
    table.to_csv(tmp_path / "t.csv")
    table.to_json(tmp_path / "t.json")
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    parsed = json.loads(table.to_json(), parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))

    assert (list(rows[0]), rows[0]["shape"], float(rows[0]["mean"])) == (list(COLUMNS), "2x2", 1.0)
    assert (parsed[0]["shape"], parsed[1]["max"]) == ([2, 2], "inf")
    assert (tmp_path / "t.csv").read_text() == table.to_csv()
    assert (tmp_path / "t.json").read_text() == table.to_json()


@pytest.mark.parametrize("method", ["to_csv", "to_json"])
def test_a_table_takes_the_place_of_a_file_by_rename(method, open_values, tmp_path):
    """Readers of the old file keep it; the new one has its permissions, and links still lead to it."""
    folder = tmp_path / "tables"
    folder.mkdir()
    target, link = folder / "table", folder / "link"
    target.write_text("old")
    target.chmod(0o600)
    link.symlink_to(target)
    with open_values(VALUES) as ckpt, target.open() as old:
        table = ckpt.stats()
        getattr(table, method)(link)

        assert old.read() == "old"
    assert (target.read_text(), stat.S_IMODE(target.stat().st_mode)) == (getattr(table, method)(), 0o600)
    assert (link.is_symlink(), sorted(os.listdir(folder))) == (True, ["link", "table"])


@pytest.mark.parametrize("method", ["to_csv", "to_json"])
def test_a_table_that_cannot_be_written_says_why(method, open_values, tmp_path):
    """A missing folder, and a folder of that name, raise typed errors with the path."""
    with open_values(VALUES) as ckpt:
        table = ckpt.stats()

    with pytest.raises(MissingFolder, match=r"no.there.* create it first"):
        getattr(table, method)(tmp_path / "no" / "there")
    with pytest.raises(FolderInTheWay, match="is a folder"):
        getattr(table, method)(tmp_path)


def test_a_table_prints_in_columns(open_values):
    """Plain text without a terminal; the same lines with rich."""
    with open_values(VALUES) as ckpt:
        table = ckpt.stats()
    lines = str(table).splitlines()
    with (console := Console(width=200, file=io.StringIO())).capture() as printed:
        console.print(table)

    assert lines[0].split() == list(PRINTED)
    assert lines[1].split() == ["a", "Float32", "2", "×", "2", "-2", "5", "1", "2.55", "5.477", "1", "0", "0"]
    assert [line.rstrip() for line in printed.get().splitlines()] == lines


def test_a_table_shows_in_a_notebook_with_hostile_names_escaped(open_values):
    """Markup in a name stays text."""
    with open_values({"<script>alert(1)</script>": np.ones(2, "float32")}) as ckpt:
        made = ckpt.stats()._repr_html_()

    assert "<script" not in made
    assert "&lt;script&gt;alert(1)" in made


def test_a_table_is_a_sequence(open_values):
    """Rows are found by index, by name and by slice."""
    with open_values(VALUES) as ckpt:
        table = ckpt.stats()

    assert (len(table), table[0].name, table["b"].name, len(table[1:])) == (4, "a", "b", 3)
    with pytest.raises(KeyError):
        table["no such"]


def rows(*values):
    """Rows of single numbers, named by position; None makes a row that was not measured."""
    return Statistics(
        Row(str(place), "Float64", (1,), measure([np.array([0.0 if value is None else value])]), "" if value else "no")
        for place, value in enumerate(values)
    )


@given(st.lists(st.none() | st.floats(0.5, 9), max_size=20), st.sampled_from(list(COLUMNS)), st.none() | st.booleans())
def test_sorting_only_changes_the_order(values, column, descending):
    """Sorting keeps all rows, and puts those without a number last."""
    table = rows(*values)
    made = table.sort(column, descending=descending)
    found = [COLUMNS[column](row) for row in made]
    known = [value for value in found if value is not None]
    largest_first = column not in ("name", "dtype", "shape", "skipped") if descending is None else descending

    assert sorted(made, key=lambda row: int(row.name)) == list(table)
    assert known == sorted(known, reverse=largest_first)
    assert found[len(known) :] == [None] * (len(found) - len(known))


def test_complex_numbers_are_sorted_by_their_size_and_kept_as_two():
    """Complex numbers are sorted by magnitude, and are pairs in plain data."""
    table = rows(3 + 4j, 2, 6j)

    assert [row.name for row in table.sort("mean")] == ["2", "0", "1"]
    assert table.plain()[0]["mean"] == [3.0, 4.0]


def test_long_tables_are_cut_where_they_are_shown():
    """Text and HTML of a long table are cut; the data have all rows."""
    table = rows(*range(1, SHOWN + 1002))
    remark = "… and 1,001 more: sort(), to_csv(), to_pandas() have them all"

    assert str(table).splitlines()[SHOWN + 1 :] == [remark]
    assert table._repr_html_().count("<tr") == SHOWN + 1
    assert "1,001 more" in table._repr_html_()
    assert len(table.plain()) == len(table.to_csv().splitlines()) - 1 == SHOWN + 1001


ANY_TEXT = st.text(st.characters(exclude_characters="\0"))  # older Pythons read no CSV with that in it


FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "'=1",
    "''=1",
    "\uff1d1+1",
    '=HYPERLINK("x")',
]


def _as_stored(cell):
    """What a cell's text is in the file: without the ' of a text that begins as a formula does."""
    return cell[1:] if re.match(r"'['\s]*[=+\-@\uff1d\uff0b\uff0d\uff20]|''*[\t\r\n]", cell) else cell


@pytest.mark.parametrize("name", FORMULAS)
def test_no_name_is_a_formula(name):
    """A name that a spreadsheet would run gets a ' in front, unless formulas are asked for; numbers stay numbers."""
    table = Statistics([Row(name, "Float32", (1,), measure([np.array([-2.5], "f4")]))])
    (row,) = csv.DictReader(io.StringIO(table.to_csv(), newline=""))
    (raw,) = csv.DictReader(io.StringIO(table.to_csv(formulas=True), newline=""))

    assert (row["name"], row["min"], raw["name"]) == (f"'{name}", "-2.5", name)


def test_separators_of_other_countries_are_quoted():
    """A name cannot begin a cell of its own where a semicolon or a tab separates cells."""
    table = Statistics([Row("a;=1+1\t=2", "str", (), measure([]), "x|=1")])

    assert table.to_csv().splitlines()[1].startswith('"a;=1+1\t=2",str,')


@given(ANY_TEXT, ANY_TEXT)
@example("''=", "'\r")
@example("a\rb", "\r")
def test_any_name_survives_a_round_trip(name, why):
    """CSV and JSON preserve any name: quotes, commas, line ends, unpaired surrogates."""
    table = Statistics([Row(name, "str", (), measure([]), why)])
    (row,) = csv.DictReader(io.StringIO(table.to_csv(formulas=True), newline=""))
    (text,) = csv.DictReader(io.StringIO(table.to_csv(), newline=""))

    assert [(row["name"], row["skipped"])] == [(_as_stored(text["name"]), _as_stored(text["skipped"]))] == [(name, why)]
    assert [(row["name"], row["skipped"]) for row in json.loads(table.to_json())] == [(name, why)]


@pytest.mark.parametrize("method", ["to_csv", "to_json"])
def test_a_table_is_not_written_over_its_checkpoint(method, tmp_path):
    """The table, sorted or cut, knows the file that it was made of, also by another name of that file."""
    path, link = tmp_path / "net.ckpt", tmp_path / "link"
    lazyckpt.save_checkpoint({"w": counting((3,)), "b": counting((2,))}, path)
    link.symlink_to(path)
    before = path.read_bytes()
    with lazyckpt.load_checkpoint(path) as ckpt:
        table = ckpt.stats()
    for each in (table, table.sort(), table[:1]):
        for name in (path, link):
            with pytest.raises(FileInTheWay, match="is the input"):
                getattr(each, method)(name)

    assert path.read_bytes() == before
