"""The part of a Markdown page that a run writes: what stands between two marks, all of it made from the report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figures, Row
from benchmarks.report import Report
from benchmarks.units import duration, held, judged, spread, times

BEGIN, END = "<!-- figures: written by tools/bench.py -->", "<!-- end of figures -->"
_NEAR = 1.1  # a peer that is beaten by less, or beats by less, is as fast


def put(report: Report, page: str, picture: str | None) -> None:
    """Put the figures between the page's marks.

    Args:
        report: the run.
        page: the file; it must have both marks.
        picture: the plot as the page is to name it, or None.

    Raises:
        ValueError: a mark is missing.
    """
    text = Path(page).read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} needs the lines {BEGIN!r} and {END!r}; the figures go between them")
    Path(page).write_text(f"{before}{BEGIN}\n\n{figures(report, picture)}\n{END}{after}", encoding="utf-8")


def figures(report: Report, picture: str | None = None) -> str:
    """The Markdown."""
    parts = [_machine(report)]
    if picture:
        parts.append(f"![What others take, in units of what lazyckpt takes]({picture})\n")
    parts += [_slower(report), *_tables(report)]
    return "\n".join(parts)


def _machine(report: Report) -> str:
    told = report.machine
    ram = f", {told['memory_bytes'] / 2**30:.0f} GiB" if told["memory_bytes"] else ""
    packages = ", ".join(f"{name} {version}" for name, version in {**told["packages"], **told["peers"]}.items())
    machine = f"{told['processors']} x {told['processor']}{ram}, {told['system']}"
    lines = [f"Measured on {told['date']}: {machine}, Python {told['python']}, {told['openssl']}; {packages}."]
    if not report.full:
        lines.append("**Small files: these figures try the tool, and mean nothing.**")
    if report.absent:
        lines.append("Not measured: " + ", ".join(f"{name} (`{how}`)" for name, how in report.absent.items()) + ".")
    lines += [f"**{fault}**" for fault in report.failed]
    return "\n\n".join(lines) + "\n"


def _slower(report: Report) -> str:
    beaten = sorted(
        ((row.ratio, row) for row in report.rows if row.ratio is not None and row.ratio > _NEAR),
        key=lambda pair: -pair[0],
    )
    missed = [(row, bar) for row in report.rows for bar in row.bars if row.met(bar) is False] if report.full else []
    lines = ["### Where lazyckpt is not the fastest\n"]
    lines += [_told(row) for _, row in beaten] or ["Nowhere in this run: no peer took less time by more than a tenth."]
    if missed:
        lines += ["\n### Bars that are not met\n"]
        lines += [f"- {_escaped(row.name)}: {judged(row, bar, full=True)}" for row, bar in missed]
    return "\n".join(lines) + "\n"


def _told(row: Row) -> str:
    best = row.best or Figures("nobody")
    both = f"{duration(row.mine.median or 0)} beside {duration(best.median or 0)}"
    return f"- {_escaped(row.name)}: {times(row.ratio or 0)} the time of {best.label} ({both})"


def _tables(report: Report) -> Iterator[str]:
    for group in dict.fromkeys(row.group for row in report.rows):
        yield f"### {group}\n"
        yield "| | who | median | fastest - slowest turn | memory | lazyckpt takes | bars |"
        yield "|---|---|---|---|---|---|---|"
        for row in report.rows:
            if row.group == group:
                yield from _lines(row, report.full)
        yield ""


def _lines(row: Row, full: bool) -> Iterator[str]:
    bars = "; ".join(judged(row, bar, full) for bar in row.bars) or "-"
    yield _line(f"**{_escaped(row.name)}**", row.mine, "", row.note or bars)
    for peer in (*row.peers, *((row.limit,) if row.limit else ())):
        ratio = row.over(peer)
        yield _line("", peer, times(ratio) if ratio is not None else "-", peer.note)


def _line(name: str, figures: Figures, ratio: str, bars: str) -> str:
    median = duration(figures.median) if figures.median is not None else "-"
    cells = (name, figures.label, median, spread(figures), held(figures), ratio, bars.replace("<=", "≤"))
    return "| " + " | ".join(cells) + " |"


def _escaped(text: str) -> str:
    return text.replace("[", "\\[").replace("*", "\\*")
