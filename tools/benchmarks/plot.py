"""The picture of a run: what every side takes in units of what lazyckpt takes. Needs matplotlib."""

from __future__ import annotations

from benchmarks.figures import Report

_HEIGHT = 0.27  # inches a row
_MARKS = "osD^vPX<>p*h"


def draw(report: Report, path: str) -> None:
    """Write the picture, in the form that the file's ending names: a line a row, a mark a side, on a log scale."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = [row for row in report.rows if row.ratio is not None or row.limit_ratio is not None]
    if not rows:
        raise ValueError("there is nothing to plot: no row has anything beside lazyckpt")
    series: dict[str, list[tuple[float, int]]] = {}
    for place, row in enumerate(rows):
        for side in filter(None, (*row.peers, row.limit)):
            if ratio := row.over(side):
                series.setdefault("limit" if side is row.limit else side.label, []).append((1 / ratio, place))
    limits = series.pop("limit", None)
    mpl.rcParams.update({"svg.hashsalt": "lazyckpt", "svg.fonttype": "none", "font.size": 8})
    figure, axes = plt.subplots(figsize=(10, 1.6 + _HEIGHT * len(rows)), layout="constrained")
    for number, (label, points) in enumerate(series.items()):
        mark, color = _MARKS[number % len(_MARKS)], f"C{number % 10}"
        axes.plot(*zip(*points, strict=True), mark, color=color, label=label, markersize=5)
    if limits:
        axes.plot(*zip(*limits, strict=True), "|", color="black", label="limit", markersize=9)
    axes.axvline(1, color="gray", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [f"{row.group}: {row.name}" for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("time of others / time of lazyckpt (right of 1: lazyckpt is faster; | is the least that it takes)")
    figure.legend(loc="outside upper center", ncols=6, frameon=False)
    figure.savefig(path, **({"metadata": {"Date": None}} if path.endswith(".svg") else {"dpi": 120}))
    plt.close(figure)
