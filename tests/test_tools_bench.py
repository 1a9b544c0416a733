"""The benchmark tool: that it runs, and the form of what it writes. Never how fast anything is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTHING = type(None)
FIGURES = {
    "label": str,
    "seconds": list,
    "median": float,
    "extra_bytes": (int, NOTHING),  # memory is only told by Linux
    "peak_bytes": (int, NOTHING),
}
ROW = {
    "row": str,
    "lazyckpt": dict,
    "peer": (dict, NOTHING),
    "ratio": (float, NOTHING),
    "bars": list,
    "note": str,
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What `bench.py open --quick` printed, the file it wrote, and what it left in its folder."""
    folder, report = tmp_path_factory.mktemp("big"), tmp_path_factory.mktemp("report") / "bench.json"
    command = [sys.executable, ROOT / "tools" / "bench.py", "open", "--quick", "--folder", folder, "--json", report]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True, text=True
    )
    return done.stdout, json.loads(report.read_text()), list(folder.iterdir())


def misfits(found, form):
    """The keys that are missing, unknown, or hold a value of another type."""
    kinds = {key: isinstance(found[key], form[key]) for key in found.keys() & form.keys()}
    return sorted(found.keys() ^ form.keys()) + [key for key, fits in kinds.items() if not fits]


def test_every_row_has_the_same_form(ran):
    """Each row of the report has the documented keys with values of the documented types."""
    rows = ran[1]["rows"]

    assert rows
    assert [misfits(row, ROW) for row in rows] == [[]] * len(rows)


def test_what_was_measured_has_the_same_form(ran):
    """Each row's figures of lazyckpt have the documented keys with values of the documented types."""
    rows = ran[1]["rows"]

    assert [misfits(row["lazyckpt"], FIGURES) for row in rows] == [[]] * len(rows)


def test_every_turn_is_reported(ran):
    """A quick run measures two turns a row, and reports the seconds of both."""
    assert [len(row["lazyckpt"]["seconds"]) for row in ran[1]["rows"]] == [2] * len(ran[1]["rows"])


def test_ratio_is_that_of_the_medians(ran):
    """Where both sides were measured, the ratio is lazyckpt's median in units of the peer's."""
    measured = [row for row in ran[1]["rows"] if row["ratio"] is not None]

    assert measured
    assert [row["ratio"] for row in measured] == [row["lazyckpt"]["median"] / row["peer"]["median"] for row in measured]


def test_absent_peer_has_no_figures(ran):
    """Without a Python that has MindSpore its column stays empty, and so does the ratio."""
    beside = [row for row in ran[1]["rows"] if row["peer"] and row["peer"]["label"] == "MindSpore"]

    assert [(row["peer"]["median"], row["ratio"]) for row in beside] == [(None, None)]


def test_bars_are_not_judged_for_small_files(ran):
    """The printed table gives each bar, and says that small files do not decide it."""
    printed, report, _ = ran

    assert printed.count("not judged") == sum(len(row["bars"]) for row in report["rows"])


def test_table_is_aligned(ran):
    """Each line of the table has its second column at the same place."""
    lines = ran[0].splitlines()
    column = lines[0].index("lazyckpt")

    assert [line[column - 1] == " " != line[column] for line in lines] == [True] * len(lines)


def test_files_are_removed(ran):
    """Nothing is left in the folder where the big files went."""
    assert ran[2] == []


def test_nets_are_only_bound_where_mindspore_is(tmp_path):
    """Without a Python that has MindSpore the rows about nets stay empty on both sides, and that is no failure."""
    command = [sys.executable, ROOT / "tools" / "bench.py", "bind", "--quick", "--json", tmp_path / "bench.json"]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True, text=True)
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]

    assert [(row["lazyckpt"]["median"], row["peer"]["median"], row["note"]) for row in rows] == [(None, None, "")] * 2
