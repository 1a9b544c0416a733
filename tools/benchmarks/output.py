"""Figures as people read them: an aligned table, the figures of a Markdown page, and a picture (needs matplotlib)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from benchmarks.figures import Bar, Figures, Report, Row

BEGIN, END = "<!-- figures: written by tools/bench.py -->", "<!-- end of figures -->"
HEADINGS = ("", "who", "median", "spread", "memory", "lazyckpt takes", "bars")
_SAME = 1.1  # a peer that takes less time by no more than this factor counts as equally fast
_MARKS = "osD^vPX<>p*h"


def duration(seconds: float | None) -> str:
    """Three digits and a unit; a dash for None."""
    if seconds is None:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def memory(size: float) -> str:
    """Mebibytes."""
    return f"{size / 2**20:.1f} MiB" if size < 10 * 2**20 else f"{size / 2**20:,.0f} MiB"


def times(ratio: float | None) -> str:
    """A ratio; a dash for None."""
    return "-" if ratio is None else f"{ratio:.3g} x" if ratio < 1000 else f"{ratio:,.0f} x"


def judged(row: Row, bar: Bar, full: bool) -> str:
    """A bar, whether it is met, and the measured figure. Bars are judged only for files of full size."""
    shown = {"seconds": duration, "ratio": times, "limit": times}.get(bar.what, memory)
    found = row.found(bar)
    verdict = {True: "met", False: "NOT MET", None: "not measured"}[row.met(bar)] if full else "not judged"
    measured = f" ({shown(found)})" if full and found is not None and bar.what != "seconds" else ""
    name = {"seconds": "", "ratio": "best peer ", "peak": "peak of all memory "}.get(bar.what, f"{bar.what} ")
    return f"{name}<= {shown(bar.at_most)}: {verdict}{measured}"


def render(rows: Iterable[Row], full: bool) -> str:
    """The table: a line for lazyckpt, and one below it for each side that it is measured beside."""
    lines = [HEADINGS]
    for row in rows:
        lines.append((row.name, *_cells(row.mine), "-", row.note or _bars(row, full)))
        for side in row.beside:
            kind = "limit" if side is row.limit else "best peer" if side is row.best else "peer"
            ratio = times(row.over(side))
            lines.append(("", *_cells(side), ratio if ratio == "-" else f"{ratio} the {kind}", side.note or "-"))
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def put(report: Report, page: str, picture: str | None) -> None:
    """Put the figures, and the plot as the page should name it, between the page's marks; ValueError without marks."""
    text = Path(page).read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} needs the lines {BEGIN!r} and {END!r}; the figures go between them")
    image = [f"![What others take, in units of what lazyckpt takes]({picture})\n"] if picture else []
    figures = "\n".join([_machine(report), *image, _slower(report), *_tables(report)])
    Path(page).write_text(f"{before}{BEGIN}\n\n{figures}\n{END}{after}", encoding="utf-8")


def _machine(report: Report) -> str:
    of = report.machine
    ram = f", {of['memory_bytes'] / 2**30:.0f} GiB" if of["memory_bytes"] else ""
    packages = ", ".join(f"{name} {version}" for name, version in {**of["packages"], **of["peers"]}.items())
    machine = f"{of['processors']} x {of['processor']}{ram}, {of['system']}"
    lines = [f"Measured on {of['date']}: {machine}, Python {of['python']}, {of['openssl']}; {packages}."]
    if not report.full:
        lines.append("**Small files: these figures try the tool, and mean nothing.**")
    if report.absent:
        lines.append("Not measured: " + ", ".join(f"{name} (`{how}`)" for name, how in report.absent.items()) + ".")
    lines += [f"**{fault}**" for fault in report.failed]
    return "\n\n".join(lines) + "\n"


def _slower(report: Report) -> str:
    beaten = sorted((row for row in report.rows if (row.ratio or 0) > _SAME), key=lambda row: -(row.ratio or 0))
    missed = [(row, bar) for row in report.rows for bar in row.bars if row.met(bar) is False] if report.full else []
    lines = ["### Where lazyckpt is not the fastest\n"]
    for row in beaten:
        both = f"{duration(row.mine.median)} beside {duration(row.best.median)}"
        lines.append(f"- {_escaped(row.name)}: {times(row.ratio)} the time of {row.best.label} ({both})")
    if not beaten:
        lines.append("Nowhere in this run: no peer took less time by more than a tenth.")
    if missed:
        lines.append("\n### Bars that are not met\n")
        lines += [f"- {_escaped(row.name)}: {judged(row, bar, full=True)}" for row, bar in missed]
    return "\n".join(lines) + "\n"


def _tables(report: Report) -> Iterator[str]:
    for group, rows in groupby(report.rows, lambda row: row.group):
        yield f"### {group}\n"
        yield "| | who | median | fastest - slowest turn | memory | lazyckpt takes | bars |"
        yield "|---|---|---|---|---|---|---|"
        for row in rows:
            bars = (row.note or _bars(row, report.full)).replace("<=", "≤")
            lines = [(f"**{_escaped(row.name)}**", *_cells(row.mine), "", bars)]
            lines += [("", *_cells(side), times(row.over(side)), side.note) for side in row.beside]
            yield from (f"| {' | '.join(line)} |" for line in lines)
        yield ""


def _bars(row: Row, full: bool) -> str:
    return "; ".join(judged(row, bar, full) for bar in row.bars) or "-"


def _cells(figures: Figures) -> tuple[str, str, str, str]:
    """Label, median, fastest and slowest turn, and memory: private where that was measured, else resident."""
    seconds = figures.seconds
    spread = f"{duration(min(seconds))} - {duration(max(seconds))}" if seconds else "-"
    held = "-" if figures.extra_bytes is None else memory(figures.extra_bytes)
    if figures.private_bytes is not None:
        held = f"{memory(figures.private_bytes)} private"
    return figures.label, duration(figures.median), spread, held


def _escaped(text: str) -> str:
    return text.replace("[", "\\[").replace("*", "\\*")


def draw(report: Report, path: str) -> None:
    """Write the picture, in the form that the file's ending names: a line a row, a mark a side, on a log scale."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = [row for row in report.rows if any(map(row.over, row.beside))]
    if not rows:
        raise ValueError("there is nothing to plot: no row has anything beside lazyckpt")
    series: dict[str, list[tuple[float, int]]] = {}
    for place, row in enumerate(rows):
        for side in row.beside:
            if ratio := row.over(side):
                series.setdefault("limit" if side is row.limit else side.label, []).append((1 / ratio, place))
    mpl.rcParams.update({"svg.hashsalt": "lazyckpt", "svg.fonttype": "none", "font.size": 8})
    figure, axes = plt.subplots(figsize=(10, 1.6 + 0.27 * len(rows)), layout="constrained")
    for number, (label, points) in enumerate(series.items()):
        mark, color = ("|", "black") if label == "limit" else (_MARKS[number % len(_MARKS)], f"C{number % 10}")
        axes.plot(*zip(*points, strict=True), mark, color=color, label=label, markersize=6)
    axes.axvline(1, color="gray", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [f"{row.group}: {row.name}" for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("time of others / time of lazyckpt (right of 1: lazyckpt is faster; | is the least that it takes)")
    figure.legend(loc="outside upper center", ncols=6, frameon=False)
    figure.savefig(path, **({"metadata": {"Date": None}} if path.endswith(".svg") else {"dpi": 120}))
    plt.close(figure)
