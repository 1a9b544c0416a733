"""Plots with matplotlib: a treemap of sizes, a histogram of values, L2 norms.

Figures are independent of pyplot: no window opens, and no global setting is changed.
"""

from __future__ import annotations

import io
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from lazyckpt.display import human_size, printable
from lazyckpt.statistics.moments import Moments
from lazyckpt.statistics.table import Row
from lazyckpt.views.name_tree import Node, pruned
from lazyckpt.views.outline import Outline, shape_text
from lazyckpt.views.treemap import Box, squarified

Array = npt.NDArray[Any]
LIGHTER: Final = 0.03  # by this share leaves are lighter than their module
WIDTH: Final = 8.0  # inches
DPI: Final = 110
INK: Final = "#24292f"
FAINT: Final = "#6e7781"
RULE: Final = "#d8dee4"
# Dark enough for white text (contrast of 4.5 and more), and distinct for people with colour blindness.
COLOURS: Final = ("#2f6db3", "#b3541e", "#3f7d3a", "#8250df", "#a13d63", "#0b7285", "#7d5a00", "#57606a")
BINS: Final = 80
BARS: Final = 40  # more norms than this are drawn as points
KINDS: Final = 7  # name endings with a colour of their own
_CHARACTER: Final = 0.6  # width of a character, in units of its height
_LONGEST_TITLE: Final = 90


class Picture(Figure):  # type: ignore[misc]  # matplotlib is not installed where types are checked
    """A figure that a notebook shows whether or not pyplot was imported.

    Attributes:
        allow: called with a path before the figure is written to it; raises if a file there must be kept.
    """

    allow: Callable[[str], object] | None = None

    def kept_from(self, allow: Callable[[str], object]) -> Picture:
        """The figure, never written to a path that `allow` refuses."""
        self.allow = allow
        return self

    def savefig(self, fname: Any, **options: Any) -> None:
        """Write the figure, as in matplotlib, but never over the checkpoint that it shows.

        Raises:
            FileInTheWay: the path is the checkpoint itself.
        """
        if self.allow is not None and isinstance(fname, (str, os.PathLike)):
            self.allow(os.fspath(fname))
        super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.savefig(data, format="png", dpi=DPI)
        return data.getvalue()


def sizes_picture(outline: Outline) -> Picture:
    """A treemap: areas are bytes, colours are modules. Cost: O(rectangles)."""
    figure, axes = _empty(4.8, f"{outline.root.label} · {outline.headline()}")
    axes.axis("off")
    height = 4.1 / 7.6 * 100
    axes.set_xlim(0, 100)
    axes.set_ylim(0, height)
    root = pruned(outline.root, rows=240, breadth=40)
    while len(root.children) == 1:
        root = root.children[0]
    parts = [child for child in (root.children or (root,)) if child.nbytes > 0]
    if not parts:
        return _only_text(axes, figure, "It has no bytes.")
    parts.sort(key=lambda node: -node.nbytes)
    boxes = squarified([part.nbytes for part in parts], Box(0, 0, 100, height))
    for number, (part, box) in enumerate(zip(parts, boxes, strict=True)):
        _draw(axes, part, box, COLOURS[min(number, len(COLOURS) - 1)], 0)
    return figure


def hist_picture(name: str, dtype: str, shape: tuple[int, ...], moments: Moments, pieces: Iterable[Array]) -> Picture:
    """A histogram of the finite numbers of a value, or of the magnitudes of complex ones.

    Args:
        name: the name of the value.
        dtype: its dtype, as text.
        shape: its shape.
        moments: its moments.
        pieces: its numbers, a piece at a time; they are read once.
    """
    facts = [dtype, shape_text(shape), *_in_words(moments)]
    if not moments.finite:
        figure, axes = _empty(3.6, name, " · ".join(facts))
        axes.axis("off")
        return _only_text(axes, figure, "It has no finite values.")
    edges = _edges(dtype, moments)
    counts = np.zeros(len(edges) - 1, np.int64)
    for piece in pieces:
        counts += np.histogram(_finite_of(piece), edges)[0]
    outside = moments.finite - int(counts.sum())
    figure, axes = _empty(3.6, name, " · ".join([*facts, *([f"{outside:,} not shown"] if outside else [])]))
    if _is_whole(dtype, moments):
        axes.bar((edges[:-1] + edges[1:]) / 2, counts, width=0.85, color=COLOURS[0])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        axes.stairs(counts, edges, fill=True, color=COLOURS[0])
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _tidy(axes)
    axes.set_ylim(0, max(1, counts.max()) * 1.05)
    axes.set_ylabel("values", color=FAINT)
    if isinstance(moments.mean, complex):
        axes.set_xlabel("magnitude", color=FAINT)
    elif edges[0] <= moments.mean <= edges[-1]:
        axes.axvline(moments.mean, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    return figure


def norms_picture(label: str, rows: Sequence[Row]) -> Picture:
    """L2 norms in file order: bars, or for many values points coloured by name ending."""
    known = [row for row in rows if not row.skipped and row.moments.count]
    if not known:
        figure, axes = _empty(3.6, label)
        axes.axis("off")
        return _only_text(axes, figure, "It has no values.")
    spoiled = sum(1 for row in known if row.moments.nan or row.moments.inf)
    subtitle = f"L2 norms of {len(known):,} values" + (
        f", {spoiled:,} of them with NaN or Inf (hollow)" if spoiled else ""
    )
    if len(known) <= BARS:
        figure, axes = _empty(1.2 + 0.2 * len(known), label, subtitle)
        _bars(axes, known)
    else:
        figure, axes = _empty(4.2, label, subtitle)
        _points(axes, known)
    return figure


def _bars(axes: Axes, rows: Sequence[Row]) -> None:
    ordinals = np.arange(len(rows))
    hollow = [bool(row.moments.nan or row.moments.inf) for row in rows]
    bars = axes.barh(ordinals, [_shown(row.moments.norm) for row in rows], height=0.7, color=COLOURS[0])
    for bar, empty in zip(bars, hollow, strict=True):
        if empty:
            bar.set(facecolor="white", edgecolor=COLOURS[1], linewidth=1.2)
    axes.set_yticks(ordinals, [_cut(row.name, 44) for row in rows], fontsize=8, parse_math=False)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("L2 norm", color=FAINT)
    _tidy(axes, grid="x")
    if not any(row.moments.norm for row in rows):
        axes.set_xlim(0, 1)


def _points(axes: Axes, rows: Sequence[Row]) -> None:
    ends = [_end(row.name) for row in rows]
    shown = [end for end, count in Counter(ends).most_common(KINDS) if count > 1]
    norms = np.array([_shown(row.moments.norm) for row in rows])
    hollow = np.array([bool(row.moments.nan or row.moments.inf) for row in rows])
    ordinals = np.arange(len(rows))
    numbers = {end: number for number, end in enumerate(shown)}
    group = np.array([numbers.get(end, len(shown)) for end in ends])
    for number, name in enumerate([*shown, "others" if shown else "values"]):
        mine = group == number
        if not mine.any():
            continue
        colour = COLOURS[min(number, len(COLOURS) - 1)]
        size = 20 if len(rows) < 2000 else 4
        axes.scatter(ordinals[mine & ~hollow], norms[mine & ~hollow], size, color=colour, label=_cut(name, 30),
                     linewidths=0, rasterized=True)  # fmt: skip
        axes.scatter(ordinals[mine & hollow], norms[mine & hollow], 36, facecolors="white", edgecolors=colour)
    positive = norms[norms > 0]
    if positive.size and positive.max() > 50 * positive.min():
        axes.set_yscale("symlog" if (norms == 0).any() else "log", **(
            {"linthresh": float(positive.min())} if (norms == 0).any() else {}))  # fmt: skip
    elif positive.size == 0:
        axes.set_ylim(-0.05, 1)
    else:
        axes.set_ylim(bottom=0)
    axes.set_ylabel("L2 norm", color=FAINT)
    axes.set_xlabel("values in the order of the file", color=FAINT)
    _tidy(axes)
    legend = axes.legend(
        loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8, labelcolor=INK, markerscale=1.2
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _draw(axes: Axes, node: Node, box: Box, colour: str, level: int) -> None:
    """A node's rectangle, its label where there is room, and its children inside."""
    children = sorted((child for child in node.children if child.nbytes > 0), key=lambda child: -child.nbytes)
    inside = box.inset(0.5, 3.0)
    if not children or inside.width < 4 or inside.height < 3:
        shade = _lighter(colour, 0.0 if level == 0 else LIGHTER)
        axes.add_patch(Rectangle(box[:2], box.width, box.height, facecolor=shade, edgecolor="white", linewidth=1))
        _label(axes, node, box)
        return
    axes.add_patch(
        Rectangle(box[:2], box.width, box.height, facecolor=_darker(colour, 0.12 * (level + 1)), edgecolor="white")
    )
    _label(axes, node, Box(box.x, box.y + box.height - 3.4, box.width, 3.4), one_line=True)
    for child, inner in zip(children, squarified([child.nbytes for child in children], inside), strict=True):
        _draw(axes, child, inner, colour, level + 1)


def _label(axes: Axes, node: Node, box: Box, *, one_line: bool = False) -> None:
    """Write name and size into a rectangle as far as they fit."""
    size = 7.5
    unit = size / 72 / (7.6 / 100)  # height of a character in the picture's own units
    fits = int((box.width - 1.2) / (unit * _CHARACTER))
    name, size_text = printable(node.label), human_size(node.nbytes)
    if box.height < unit + 1.4 or fits < min(len(name), 4):
        return
    name = name if len(name) <= fits else f"{name[: fits - 1]}…"
    lines = [name]
    if one_line and len(name) + len(size_text) + 2 <= fits:
        lines = [f"{name}  {size_text}"]
    elif not one_line and box.height > 2.8 * unit and len(size_text) <= fits:
        lines.append(size_text)
    y = box.y + box.height / 2 if one_line else box.y + box.height - 0.9
    axes.text(
        box.x + 0.7, y, "\n".join(lines), color="white", fontsize=size, va="center" if one_line else "top",
        ha="left", linespacing=1.25, clip_on=True, parse_math=False,
    )  # fmt: skip


def _edges(dtype: str, moments: Moments) -> npt.NDArray[np.float64]:
    """The bin edges: one bin per integer if there are few, else equal bins over the range."""
    low, high = _bounds(moments)
    if _is_whole(dtype, moments):
        return np.arange(low - 0.5, high + 1.0)
    if not high > low or low + (high - low) / BINS == low:
        width = max(abs(low), 1.0) * 0.05
        return np.linspace(low - width, low + width, 22)
    return np.linspace(low, high, BINS + 1)


def _is_whole(dtype: str, moments: Moments) -> bool:
    """Whether the values are integers in a range of fewer than `BINS`."""
    if not dtype.lower().startswith(("int", "uint", "bool")) or moments.low is None or moments.high is None:
        return False
    return moments.high - moments.low < BINS


def _bounds(moments: Moments) -> tuple[float, float]:
    """The range of a histogram: the extremes, or mean ± 4 deviations if they are infinite."""
    if moments.low is not None and moments.high is not None and math.isfinite(moments.low + moments.high):
        return float(moments.low), float(moments.high)
    if isinstance(moments.mean, complex):
        return 0.0, abs(moments.mean) + 4 * moments.std
    low, high = moments.mean - 4 * moments.std, moments.mean + 4 * moments.std
    if moments.low is not None and math.isfinite(moments.low):
        low = max(low, float(moments.low))
    if moments.high is not None and math.isfinite(moments.high):
        high = min(high, float(moments.high))
    return low, high


def _finite_of(piece: Array) -> Array:
    numbers = piece.reshape(-1)
    if numbers.dtype.kind not in "biufc":
        numbers = numbers.astype(np.float32)
    numbers = np.abs(numbers).astype(np.float64) if numbers.dtype.kind == "c" else numbers.astype(np.float64)
    usable = np.isfinite(numbers)
    return numbers if usable.all() else numbers[usable]


def _in_words(moments: Moments) -> list[str]:
    facts = [f"mean {moments.mean:.3g}", f"std {moments.std:.3g}"] if moments.finite else []
    counted = {"zeros": moments.zeros, "NaN": moments.nan, "Inf": moments.inf}
    return [*facts, *(f"{what} {count:,}" for what, count in counted.items() if count)]


def _empty(height: float, title: str, under: str = "") -> tuple[Picture, Axes]:
    figure = Picture(figsize=(WIDTH, height), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(
        _cut(title), loc="left", fontsize=10, fontweight="bold", color=INK, pad=20 if under else 8, parse_math=False
    )
    if under:
        axes.text(0, 1.02, under, transform=axes.transAxes, fontsize=8.5, color=FAINT, va="bottom", parse_math=False)
    return figure, axes


def _only_text(axes: Axes, figure: Picture, text: str) -> Picture:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=FAINT, fontsize=10)
    return figure


def _tidy(axes: Axes, grid: str = "y") -> None:
    for side in ("top", "right", "left" if grid == "y" else "bottom"):
        axes.spines[side].set_visible(False)
    for side in axes.spines.values():
        side.set_color(RULE)
    axes.tick_params(colors=FAINT, labelsize=8, length=0)
    axes.grid(axis=grid, color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)


def _shown(norm: float) -> float:
    return norm if math.isfinite(norm) else 0.0


def _end(name: str) -> str:
    """The last two components of a name, without numbers."""
    parts = [part for part in name.split(".") if not part.isdigit()]
    return ".".join(parts[-2:])


def _cut(text: str, longest: int = _LONGEST_TITLE) -> str:
    """The text, cut to fit. Its end is kept, because the end of a name says more."""
    shown = printable(text)
    return shown if len(shown) <= longest else f"…{shown[-longest:]}"


def _mixed(colour: str, with_: int, share: float) -> tuple[float, float, float]:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    mix: Callable[[int], float] = lambda one: (one + (with_ - one) * share) / 255  # noqa: E731 (three times the same)
    return mix(red), mix(green), mix(blue)


def _lighter(colour: str, share: float) -> tuple[float, float, float]:
    return _mixed(colour, 255, share)


def _darker(colour: str, share: float) -> tuple[float, float, float]:
    return _mixed(colour, 0, share)
