"""The benchmark tool is honest: wrong bytes fail a row, and ratios use the best peer."""

import json
import mmap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks import markdown, report
from benchmarks.checkpoints import Checkpoints
from benchmarks.figures import Bar, Figures, Row
from benchmarks.measure import Turns, compare
from benchmarks.peers import PEERS, Beside
from benchmarks.processes import Processes, Side
from benchmarks.run import Run
from benchmarks.table import render
from benchmarks.worker import digest, private

MACHINE = {
    "date": "2026-01-02",
    "python": "3.11.7",
    "system": "Linux",
    "processor": "Some Processor",
    "processors": 2,
    "memory_bytes": 8 * 2**30,
    "openssl": "OpenSSL 3",
    "packages": {"lazyckpt": "0.1.0"},
    "peers": {"h5py": "3"},
}
FAST, SLOW = Figures("fast", (0.1, 0.2, 0.3)), Figures("slow", (1.0, 2.0, 3.0))
MINE = Figures("lazyckpt", (0.4, 0.3, 0.5), extra=2**20)
ROW = Row(
    "one thing",
    MINE,
    (SLOW, FAST, Figures("gone", note="not here")),
    Figures("bare (limit)", (0.1,)),
    (Bar("ratio", 1.1), Bar("limit", 4.5), Bar("private", 1)),
    group="read",
)


@pytest.fixture
def run(tmp_path):
    """A run over small files with two peers and one turn for each row."""
    with Processes(kept=True) as processes:
        yield Run(Checkpoints(str(tmp_path), full=False), Beside(("safetensors", "numpy"), None), processes, 1, True)


def one_value(run):
    """A row about one value, which safetensors reads from its own file format."""
    file = run.files.parts
    mine, peers = run.opened("value", file, ("safetensors",), name=file.names[3], how="copy")
    return run.compare("one value", mine, peers, turns=1)


def test_equal_bytes_are_measured(run):
    """A peer that returns the same bytes as lazyckpt has figures."""
    row = one_value(run)

    assert row.note == ""
    assert row.ratio is not None


@pytest.mark.parametrize("fresh", [False, True])
def test_other_bytes_fail_the_row(run, fresh):
    """A peer whose value differs in one bit has no figures, and the row names it."""
    file = run.files.parts
    mine, peers = run.opened("value", file, ("safetensors",), name=file.names[-1], how="copy")
    path = Path(peers[0].arguments["path"])
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # a bit of the last value
    path.write_bytes(data)
    row = run.compare("one value", mine, peers, turns=1, fresh=fresh)

    assert row.note == "safetensors gives OTHER BYTES than lazyckpt"
    assert row.ratio is None


def test_failed_side_fails_the_row(run):
    """The error of a failed peer is reported, and the figures of lazyckpt are kept."""
    file = run.files.parts
    mine, peers = run.opened("value", file, ("numpy",), name=file.names[3], how="copy")
    Path(peers[0].arguments["path"], f"{file.names[3]}.npy").unlink()
    row = run.compare("one value", mine, peers, turns=1)

    assert row.note.startswith("numpy.load: FileNotFoundError")
    assert row.mine.seconds


def test_dead_process_fails_the_row():
    """An interpreter that exits immediately is reported."""
    side = Side("nobody", "opened.load", {}, (), python="/bin/false")
    with Processes() as processes:
        row = compare("a row", side, (), None, (), Turns(1), processes)

    assert row.note == "nobody: the process died"


@pytest.mark.parametrize("name", ["safetensors", "numpy", "torch", "h5py", "zarr", "tensorizer"])
def test_forms_hold_the_same_values(run, name):
    """Each peer reads the values of the checkpoint from its own file format."""
    for module in PEERS[name].modules:
        pytest.importorskip(module)
    beside = replace(run, beside=Beside((name,), None))
    mine, (theirs,) = beside.opened("load", run.files.lenet, (name,))
    with run.processes.having(mine) as process, run.processes.having(theirs) as other:
        assert process.ask(check=True)["digest"] == other.ask(check=True)["digest"]


def test_digest_tells_a_bit_a_shape_and_a_name():
    """The digest depends on bits, shape, dtype and name, but not on the order."""
    array = np.arange(6, dtype=np.float32)
    bit = array.copy()
    bit.view(np.uint32)[5] ^= 1
    others = [("a", bit), ("a", array.reshape(2, 3)), ("a", array.view(np.int32)), ("b", array)]

    assert len({digest([pair]) for pair in [("a", array), *others]}) == 5
    assert digest([("a", array), ("b", bit)]) == digest([("b", bit), ("a", array)])


def test_private_memory_grows_with_what_is_kept():
    """Memory that a process fills counts as private."""
    before = private()
    if before is None:
        pytest.skip("this system does not tell")
    with mmap.mmap(-1, 2**23) as kept:
        kept.write(b"1" * len(kept))

        assert private() - before >= 0.9 * len(kept)


def test_ratio_is_to_the_best_peer():
    """The ratio uses the fastest peer that was measured."""
    assert (ROW.best, ROW.ratio, ROW.limit_ratio) == (FAST, 2.0, 4.0)


def test_bars_are_judged_by_what_was_measured():
    """A bar is met or missed, or neither if its figure is missing."""
    assert [ROW.met(bar) for bar in ROW.bars] == [False, True, None]


def test_table_says_what_is_missed():
    """At full size, the table judges each bar and gives the ratio to the best peer."""
    printed = render([ROW], full=True)

    assert "best peer <= 1.1 x: NOT MET (2 x); limit <= 4.5 x: met (4 x); private <= 0.0 MiB: not measured" in printed
    assert "2 x the best peer" in printed


def test_report_is_read_back(tmp_path):
    """A report is equal after writing and reading."""
    made = report.Report("full", MACHINE, {"zarr": "pip install zarr"}, (ROW,))
    made.write(tmp_path / "bench.json")

    assert report.read(tmp_path / "bench.json") == made
    assert json.loads((tmp_path / "bench.json").read_text())["rows"][0]["best"] == "fast"


@pytest.fixture
def page(tmp_path):
    """A page with the figures of an earlier run."""
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n\n{markdown.BEGIN}\nold\n{markdown.END}\n\nAfter.\n")
    return page


def test_figures_go_between_the_marks(page):
    """New figures replace those between the markers; the rest of the page is unchanged."""
    markdown.put(report.Report("full", MACHINE, {}, (ROW,)), page, "images/bench.svg")
    text = page.read_text()

    assert text.startswith(f"# Before\n\n{markdown.BEGIN}\n")
    assert text.endswith(f"{markdown.END}\n\nAfter.\n")
    assert "old" not in text
    assert "](images/bench.svg)" in text


def test_page_says_where_lazyckpt_is_slower(page):
    """The page lists each row with a faster peer, with both times, and each missed bar."""
    markdown.put(report.Report("full", MACHINE, {}, (ROW,)), page, None)

    assert "- one thing: 2 x the time of fast (400 ms beside 200 ms)\n" in page.read_text()
    assert "- one thing: best peer <= 1.1 x: NOT MET (2 x)\n" in page.read_text()


def test_page_says_of_small_files_that_they_mean_nothing(page):
    """The page states that figures of a quick run are meaningless."""
    markdown.put(report.Report("small", MACHINE, {}, (ROW,)), page, None)

    assert "these figures try the tool, and mean nothing" in page.read_text()


def test_page_without_marks_is_left_alone(tmp_path):
    """A page without markers is an error, and is not changed."""
    page = tmp_path / "page.md"
    page.write_text("# Nothing\n")
    with pytest.raises(ValueError, match="the figures go between them"):
        markdown.put(report.Report("full", MACHINE, {}, (ROW,)), page, None)

    assert page.read_text() == "# Nothing\n"
