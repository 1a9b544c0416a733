"""The benchmark tool: its subcommands run and write the documented form. Speed is not tested."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.units import duration

ROOT = Path(__file__).parents[2]
LIGHT = ("open", "index", "slice", "show", "import")
HEAVY = ("read", "crypto", "bind", "convert", "stats", "workers", "scale")  # take a minute; the gate runs them
_ASKED_FOR = pytest.mark.skipif("LAZYCKPT_BENCH" not in os.environ, reason="set LAZYCKPT_BENCH to run it")
GROUPS = [*LIGHT, *(pytest.param(group, marks=_ASKED_FOR) for group in HEAVY)]
PEERS = "safetensors,numpy,mindspore"  # two that are installed, and one that is not
NOTHING = type(None)
FIGURES = {
    "label": str,
    "seconds": list,
    "median": (float, NOTHING),
    "extra_bytes": (int, NOTHING),  # only Linux reports memory
    "peak_bytes": (int, NOTHING),
    "private_bytes": (int, NOTHING),
    "note": str,
}
ROW = {
    "group": str,
    "row": str,
    "lazyckpt": dict,
    "peers": list,
    "limit": (dict, NOTHING),
    "best": (str, NOTHING),
    "ratio": (float, NOTHING),
    "limit_ratio": (float, NOTHING),
    "bars": list,
    "note": str,
}


def bench(*arguments, check=True):
    """Run the tool with this lazyckpt."""
    command = [sys.executable, ROOT / "tools" / "bench.py", *arguments]
    return subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=check, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The folder for large files, and the folder for reports."""
    return tmp_path_factory.mktemp("big"), tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module", params=GROUPS)
def ran(request, folders):
    """A subcommand, the output of its quick run, and its report."""
    report = folders[1] / f"{request.param}.json"
    done = bench(request.param, "--quick", "--repeat", "1", "--peers", PEERS, "--folder", folders[0], "--json", report)
    return request.param, done.stdout, json.loads(report.read_text())


def misfits(found, form):
    """The keys that are missing, unknown, or hold a value of another type."""
    kinds = {key: isinstance(found[key], form[key]) for key in found.keys() & form.keys()}
    return sorted(found.keys() ^ form.keys()) + [key for key, fits in kinds.items() if not fits]


def sides(row):
    """All sides of a row."""
    return [row["lazyckpt"], *row["peers"], *([row["limit"]] if row["limit"] else [])]


def measured(report):
    """The figures of all sides that were measured."""
    return [side for row in report["rows"] for side in sides(row) if side["seconds"]]


def test_every_row_has_the_same_form(ran):
    """Each row of each report has the documented keys and types."""
    group, _, report = ran

    assert report["rows"]
    assert {row["group"] for row in report["rows"]} == {group}
    assert [misfits(row, ROW) for row in report["rows"]] == [[]] * len(report["rows"])


def test_what_was_measured_has_the_same_form(ran):
    """The figures of each side have the documented keys and types."""
    figures = [side for row in ran[2]["rows"] for side in sides(row)]

    assert [misfits(side, FIGURES) for side in figures] == [[]] * len(figures)


def test_every_turn_is_reported(ran):
    """A run of one turn reports one time for each side that was measured."""
    assert {len(side["seconds"]) for side in measured(ran[2])} <= {1}


def test_no_row_fails(ran):
    """Every side finished its task, and every peer returned the same bytes as lazyckpt."""
    assert [row["note"] for row in ran[2]["rows"]] == [""] * len(ran[2]["rows"])


def test_best_is_the_fastest_peer(ran):
    """The ratio is the median of lazyckpt divided by the smallest median of a peer."""
    rows = [row for row in ran[2]["rows"] if row["ratio"] is not None]
    fastest = [min(peer["median"] for peer in row["peers"] if peer["seconds"]) for row in rows]

    assert [row["ratio"] for row in rows] == [
        row["lazyckpt"]["median"] / best for row, best in zip(rows, fastest, strict=True)
    ]


def test_absent_peer_is_named_with_its_command(ran):
    """Without a Python for MindSpore, its figures are empty, which is not a failure."""
    absent = [peer for row in ran[2]["rows"] for peer in row["peers"] if peer["label"] == "MindSpore"]

    assert {(peer["median"], "pip install mindspore" in peer["note"]) for peer in absent} <= {(None, True)}
    assert "not measured: mindspore (pip install mindspore" in ran[1]


def test_table_and_report_agree(ran):
    """Every median of the report is in the table, in or below the line of its row."""
    _, printed, report = ran

    for row in report["rows"]:
        below = printed[printed.index(f"\n{row['row']} ") :]
        for side in sides(row):
            shown = duration(side["median"]) if side["median"] is not None else "-"
            assert f"  {side['label']}" in below
            assert f" {shown} " in below


def test_bars_are_not_judged_for_small_files(ran):
    """The table shows each bar, and does not judge it for small files."""
    _, printed, report = ran

    assert printed.count("not judged") == sum(len(row["bars"]) for row in report["rows"])


def test_table_is_aligned(ran):
    """The second column starts at the same position in each line."""
    lines = [line for line in ran[1].splitlines() if not line.startswith("not measured")]
    column = lines[0].index("who")

    assert [line[column - 1] == " " != line[column] for line in lines] == [True] * len(lines)


def test_files_are_removed(ran, folders):
    """The folder for large files is empty at the end."""
    assert list(folders[0].iterdir()) == []


def test_render_prints_the_same_table(ran, folders):
    """`render` prints the table of an earlier report without measuring."""
    again = bench("render", "--json", folders[1] / f"{ran[0]}.json")

    assert again.stdout == ran[1]
    assert "measured in" not in again.stderr


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="this system does not tell")
def test_private_memory_is_told_where_processes_share(ran):
    """Private memory is reported only for rows in which processes share a file."""
    kinds = {type(side["private_bytes"]) for side in measured(ran[2])}

    assert kinds <= ({int} if ran[0] == "workers" else {NOTHING})
    assert kinds or not measured(ran[2])  # `bind` measures nothing without a framework


def test_machine_is_described(ran):
    """The report has the versions of the package, its dependencies and the peers."""
    report = ran[2]

    assert {"lazyckpt", "numpy", "lmdb", "cryptography"} <= report["packages"].keys()
    assert report["peers"].keys() == {"safetensors", "numpy"}
    assert report["processors"] >= 1


def test_without_peers_only_limits_stand_beside(tmp_path):
    """`--peers none` measures only lazyckpt and the limits."""
    done = bench("slice", "--quick", "--peers", "none", "--json", tmp_path / "bench.json")
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]

    assert [row["peers"] for row in rows] == [[]] * len(rows)
    assert {bool(row["limit"]["seconds"]) for row in rows} == {True}
    assert "not measured" not in done.stdout


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not here")
def test_torch_is_measured_where_it_is(tmp_path):
    """lazyckpt, torch and safetensors fill a torch net with the same values."""
    bench("bind", "--quick", "--repeat", "1", "--peers", "torch,safetensors-torch", "--json", tmp_path / "bench.json")
    rows = [row for row in json.loads((tmp_path / "bench.json").read_text())["rows"] if "torch" in row["row"]]

    assert [len(row["lazyckpt"]["seconds"]) for row in rows] == [1, 1]
    assert [[len(peer["seconds"]) for peer in row["peers"]] for row in rows] == [[1, 1]] * 2


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not here")
@pytest.mark.parametrize(("ending", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_plot_is_written(tmp_path, ending, start):
    """The plot has the format of its extension."""
    picture = tmp_path / f"bench.{ending}"
    bench("slice", "--quick", "--peers", "numpy", "--plot", picture)

    assert picture.read_bytes().startswith(start)


def test_unknown_peer_is_refused():
    """An unknown peer is an error that lists the valid ones."""
    refused = bench("slice", "--peers", "pickle", check=False)

    assert refused.returncode == 2
    assert "pickle: choose from mindspore, safetensors," in refused.stderr


def test_render_needs_a_report():
    """`render` without a report is an error."""
    refused = bench("render", check=False)

    assert refused.returncode == 2
    assert "render needs --json FILE" in refused.stderr
