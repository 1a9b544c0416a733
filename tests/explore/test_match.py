"""`match` reports what loading would do in rows, counts and hints, for people and for programs."""

from __future__ import annotations

import json
import os
import re

import numpy as np
import pytest
from checkpoints import MIXED, checkpoint, counting
from opening import opened_and_traced, opened_over
from safetensors_files import file_of
from tracing import TracingSource

import lazyckpt
from lazyckpt.errors import ArgumentTypeError, StaleIndex
from lazyckpt.explore.match import SHOWN, Report, Row, match
from lazyckpt.frameworks.binding import plan
from lazyckpt.sources import BytesSource

# A net that meets MIXED with every outcome.
NET = {
    "conv1.weight": ((6, 1, 5, 5), "Float32"),
    "conv1.bias": ((6,), "Float32"),
    "fc.weight": ((84, 10), "Float32"),
    "step": ((), "Float32"),
    "note": ((3,), "Float32"),
    "table": ((3, 4), "Float32"),
    "conv1.biases": ((6,), "Float32"),
    "head": ((2,), "Float32"),
}


@pytest.fixture
def mixed():
    """A checkpoint with values of every kind."""
    return opened_over(BytesSource(checkpoint(MIXED)))


def vectors(*names):
    """Small arrays of these names."""
    return {name: counting((2,)) for name in names}


def outcomes(report):
    """Name -> outcome."""
    return {row.name: row.outcome for row in report.rows}


def test_every_parameter_has_a_row_and_then_every_value_that_is_left(mixed):
    """Rows come in the net's order, then in the file's, and none is repeated."""
    assert list(outcomes(match(NET, mixed)).items()) == [
        ("conv1.weight", "loads"),
        ("conv1.bias", "casts"),
        ("fc.weight", "refused"),
        ("step", "refused"),
        ("note", "passed over"),
        ("table", "passed over"),
        ("conv1.biases", "missing"),
        ("head", "missing"),
        ("mask", "unused"),
        ("empty", "unused"),
    ]


def test_a_row_shows_shapes_and_dtypes(mixed):
    """A row shows what would be loaded and what it would become, or why not."""
    rows = {row.name: row for row in match(NET | {"conv1.bias": ((6,), "Float64")}, mixed).rows}

    assert rows["conv1.weight"] == Row("conv1.weight", "loads", "conv1.weight", "Float32 (6, 1, 5, 5)")
    assert rows["conv1.bias"].note == "Float16 (6,) -> Float64 (6,)"
    assert re.search(r"\(84, 10\) in the net, \(10, 84\) in the checkpoint", rows["fc.weight"].note)
    assert rows["note"].note == "the checkpoint's value is not a tensor"
    assert rows["mask"] == Row("mask", "unused", "", "")


def test_removed_axes_of_length_one_are_reported():
    """A shape that ends in additional ones has its own outcome."""
    report = match({"w": ((2,), "Float32")}, {"w": counting((2, 1, 1))})

    assert report.rows == [Row("w", "squeezes", "w", "Float32 (2, 1, 1) -> Float32 (2,)")]
    assert report.fits


def test_a_prefix_is_reported_with_its_source():
    """A value behind a prefix is shown beside the parameter that would take it, and not as unused."""
    report = match({"w": ((2,), "Float32"), "v": ((3,), "Float32")}, vectors("net.w", "net.v", "net.u"))

    assert [(row.name, row.outcome, row.source) for row in report.rows] == [
        ("w", "loads", "net.w"),
        ("v", "refused", "net.v"),
        ("net.u", "unused", ""),
    ]
    assert "<- net.w  Float32 (2,)" in str(report)
    assert report.plan.unused == ("net.w", "net.v", "net.u")


def test_strict_matching_knows_no_prefixes_and_no_conversions():
    """`strict_load` has the same meaning as for loading."""
    net = {"w": ((2,), "Float32"), "half": ((2,), "Float16")}
    report = match(net, vectors("net.w", "half"), strict_load=True)

    assert outcomes(report) == {"w": "missing", "half": "refused", "net.w": "unused"}


def test_the_counts_are_those_of_the_rows(mixed):
    """Each outcome is counted, and the summary gives the counts in a sentence."""
    report = match(NET, mixed)

    assert report.counts() == {"loads": 1, "casts": 1, "refused": 2, "passed over": 2, "missing": 2, "unused": 2}
    assert report.summary() == "1 loads, 1 casts, 2 refused, 2 passed over, 2 missing, 2 unused"
    assert repr(report) == f"<Report: {report.summary()}>"


@pytest.mark.parametrize(
    ("net", "fits"),
    [
        ({}, True),
        (["a", "b"], True),
        ({"a": ((2,), "Float32")}, True),
        ({"a": ((2,), "Float16")}, True),
        ({"a": ((3,), "Float32")}, False),
        (["a", "c"], False),
    ],
)
def test_a_report_fits_if_nothing_is_missing_or_refused(net, fits):
    """Unused values and conversions do not prevent a fit."""
    assert match(net, vectors("a", "b")).fits == fits


def test_names_are_matched_by_name_alone():
    """A list of names fits tensors of any shape and dtype, also behind a prefix, and no strings."""
    values = {"net.a": counting((2, 3), "int8"), "net.b": np.array(True), "c": "text"}
    report = match(["a", "b", "c", "d"], values)

    assert [tuple(row) for row in report.rows] == [
        ("a", "loads", "net.a", "Int8 (2, 3)"),
        ("b", "loads", "net.b", "Bool ()"),
        ("c", "passed over", "c", "the checkpoint's value is not a tensor"),
        ("d", "missing", "", ""),
    ]


@pytest.mark.parametrize("names", [("a", "b"), {"a": 0, "b": 0}.keys(), iter(["a", "b"])])
def test_names_may_come_in_any_form(names):
    """Names may be a tuple, a dict's keys, or a generator."""
    assert outcomes(match(names, vectors("a", "b"))) == {"a": "loads", "b": "loads"}


@pytest.mark.parametrize(
    "given",
    [
        5,
        None,
        "weight",
        b"weight",
        [1, 2],
        ["w", 1],
        {"w": 5},
        {"w": ("x", "Float32")},
        {"w": (2, "Float32")},
        object(),
    ],
)
def test_what_is_no_net_is_refused(given):
    """Anything but a net, names, or names with shapes and dtypes is refused."""
    with pytest.raises(ArgumentTypeError, match="is needed, not"):
        match(given, vectors("w"))


def test_values_that_can_never_be_bound_are_refused():
    """A dict that holds something else raises our TypeError."""
    with pytest.raises(ArgumentTypeError, match="int cannot be bound"):
        match(["w"], {"w": 5})


def test_similar_names_are_suggested():
    """A missing name is shown with at most two similar unused names, best first."""
    values = vectors("encoder.layer.0.weight", "encoder.layer.1.weight", "encoder.layer.2.weight", "zzz")
    report = match(["encoder.layers.1.weight", "other"], values)

    assert report.rows[0].note.startswith("did you mean encoder.layer.1.weight or encoder.layer.")
    assert report.rows[0].note.count(" or ") == 1
    assert report.rows[1].note == ""


def test_names_that_are_used_are_no_near_names():
    """A value that another parameter takes is not suggested."""
    report = match(["conv1.weight", "conv2.weight"], vectors("conv1.weight"))

    assert report.rows[1] == Row("conv2.weight", "missing", "", "")


def test_near_names_are_looked_for_only_so_long(monkeypatch):
    """Similar names are searched for the first missing names only: 10,000 comparisons in all."""
    import difflib

    compared = []
    monkeypatch.setattr(
        difflib, "get_close_matches", lambda name, names, **_: compared.extend([name] * len(names)) or []
    )
    values = dict.fromkeys((f"unused.{number}" for number in range(3000)), counting((1,)))
    report = match([f"missing.{number}" for number in range(500)], values)

    assert report.counts()["missing"] == 500
    assert (len(compared), list(dict.fromkeys(compared))) == (10_000, [f"missing.{number}" for number in range(5)])


def test_a_prefix_of_the_nets_names_is_hinted_at():
    """MindSpore's rules remove no prefix from the net's names; if one explains what is missing, the report says so."""
    report = match(["net.conv.w", "net.fc.w", "net.own"], vectors("conv.w", "fc.w"))

    assert report.hint == "2 of them are in the checkpoint without the prefix 'net.' of the net's names"
    assert report.summary() == f"3 missing, 2 unused. {report.hint}"


def test_a_prefix_may_have_several_parts():
    """The hint is the shortest prefix, cut at a dot, that explains the first missing name."""
    report = match(["a.b.w", "a.b.v"], vectors("w"))

    assert report.hint == "1 of them are in the checkpoint without the prefix 'a.b.' of the net's names"
    assert match(["ab", "a.c"], vectors("b", "x")).hint == ""


def test_an_empty_match_says_so():
    """A match without parameters and values says so."""
    report = match({}, {})

    assert (report.fits, report.rows, str(report)) == (True, [], "nothing to match")


def test_the_table_is_aligned(mixed):
    """Each row is one line with outcome, name and detail in columns, and the summary follows."""
    *lines, last = str(match(NET, mixed)).split("\n")

    assert [line[:13].strip() for line in lines] == [row.outcome for row in match(NET, mixed).rows]
    assert {line.index(word) for line, word in zip(lines, ["Float32 (6", "Float16 (6"], strict=False)} == {27}
    assert last.startswith("1 loads")


def test_long_reports_are_cut():
    """The first 200 rows are printed and the rest is counted, in text and HTML; the rows are all there."""
    report = match([f"w{number}" for number in range(1000)], {})

    assert len(report.rows) == 1000
    assert str(report).split("\n")[SHOWN:] == ["… and 800 more", "1,000 missing"]
    assert report._repr_html_().count("<tr>") == SHOWN + 1
    assert "1,000 missing" in report._repr_html_()


def test_a_report_looks_as_the_other_tables_do():
    """The report has the box and dark mode of the other tables; names are cut, reasons are not."""
    page = match(["w", "n" * 1000], vectors("w"))._repr_html_()

    assert "prefers-color-scheme:dark" in page
    assert page.count('<div class="lzc') == 1
    assert ("n" * 160 + "…" in page, "n" * 161 in page) == (True, False)


EVIL = {
    "<script>alert('&')</script>": "&lt;script&gt;alert(",
    "\x1b[31mred": r"\x1b[31mred",
    "two\nlines": r"two\nlines",
    "half \ud800": r"half \ud800",
}


@pytest.mark.parametrize("name", EVIL)
def test_names_disturb_neither_terminals_nor_notebooks(name):
    """Names are escaped everywhere: in the net, in the file, in a prefix, in a hint."""
    reports = [
        match([name], {}),
        match([], {name: counting((1,))}),
        match(["w"], {f"{name}w": counting((1,))}),
        match([f"{name}.w"], vectors("w")),
        match([f"{name} long enough to be alike 1"], vectors(f"{name} long enough to be alike 2")),
    ]
    texts, pages = [str(report) for report in reports], [report._repr_html_() for report in reports]

    assert [text for text in texts if not text.replace("\n", "").isprintable()] == []
    assert [page for page in pages if not page.replace("\n", "").isprintable()] == []
    assert [EVIL[name] in page for page in pages] == [True] * len(pages)
    assert [page for page in pages if "<script" in page] == []


def test_a_report_is_plain_data(mixed):
    """`to_dict` has everything and survives JSON."""
    report = match(NET, mixed)
    data = report.to_dict()

    assert json.loads(json.dumps(data)) == data
    assert [Row(**row) for row in data["rows"]] == report.rows
    assert (data["fits"], data["counts"], data["hint"]) == (report.fits, report.counts(), report.hint)


def test_matching_reads_nothing():
    """A match reads no byte of the file."""
    source = TracingSource(checkpoint(MIXED))
    report = match(NET, opened_and_traced(source))

    assert all([str(report), report._repr_html_(), report.to_dict()])
    assert source.reads == []


def test_matching_changes_nothing(mixed):
    """A match changes neither the mapping nor the description of the net."""
    net = dict(NET)
    match(net, mixed)

    assert net == NET
    assert list(mixed) == list(MIXED)
    assert mixed._access.assigned() == {}


def test_the_public_name():
    """`match` is a public name of the package."""
    assert lazyckpt.match is match
    assert isinstance(match([], {}), Report)
    assert match([], {}).plan == plan([], {})


def test_shapes_of_a_file_that_changed_in_place_are_not_matched(tmp_path):
    """A header other than the indexed one is an error, though size, time and ends of the file are as before."""
    path = tmp_path / "net.ckpt"
    values = {"first": counting((2000,)), "w": counting((2, 3)), "last": counting((2000,))}
    path.write_bytes(checkpoint(values))
    lazyckpt.build_index(path).close()
    status = os.stat(path)
    path.write_bytes(checkpoint({**values, "w": counting((3, 2))}))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with lazyckpt.load_checkpoint(path) as opened, pytest.raises(StaleIndex, match="'w'"):
        match({"w": ((2, 3), "Float32")}, opened)


def test_an_alias_of_the_file_is_not_missing(tmp_path):
    """A name that safetensors left out, because its tensor is another's, loads under that name."""
    path = tmp_path / "net.safetensors"
    path.write_bytes(file_of({"embed.weight": counting((3, 2))}, {"lm_head.weight": "embed.weight"}))
    with lazyckpt.load_checkpoint(path, format="safetensors", index="memory") as ckpt:
        report = match(["embed.weight", "lm_head.weight"], ckpt)

    assert report.fits
    assert report.rows[1] == Row("lm_head.weight", "loads", "embed.weight", "Float32 (3, 2)")
    assert "<- embed.weight" in str(report)
