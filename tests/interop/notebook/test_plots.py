"""Plots drawn by a real matplotlib: their contents, their isolation, and odd values."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from checkpoints import MIXED, checkpoint, counting
from matplotlib.figure import Figure
from opening import opened_and_traced, opened_over
from tracing import TracingSource, places
from typer.testing import CliRunner

import lazyckpt
from lazyckpt import cli
from lazyckpt.errors import ArgumentTypeError, FileInTheWay
from lazyckpt.sources.base import BytesSource
from lazyckpt.views import plots

pytestmark = pytest.mark.filterwarnings("error")
ODD = {
    "constant": np.full(50, 3.5, "float32"),
    "zeros": np.zeros(50, "float32"),
    "nan": np.full(50, math.nan, "float32"),
    "some nan": np.array([1, math.nan, 3], "float32"),
    "inf": np.array([1, 2, math.inf, -math.inf] * 9, "float32"),
    "huge": np.array([-3e38, 3e38], "float32"),
    "tiny": np.array([0, 1e-45], "float32"),
    "flags": np.array([True, False, True]),
    "small": counting((50,), "int64") % 7,
    "wide": np.array([-(2**62), 2**62]),
    "one": np.array(3.0),
    "empty": np.zeros((0,), "float32"),
    "$x^2_": counting((4,)),
    r"$\bad{$": counting((4,)),
    "<" + "n" * 300: counting((4,)),
}


def opened(values):
    """A checkpoint in memory; values that a file cannot hold are set."""
    return opened_over(BytesSource(checkpoint(values)))


def texts(figure):
    """All that is written in a picture."""
    return [text.get_text() for axes in figure.axes for text in [*axes.texts, axes.title, axes._left_title]]


@pytest.mark.parametrize("name", ODD)
def test_any_value_has_a_histogram(name):
    """Without a warning, all finite numbers are in the histogram or reported as left out."""
    ckpt = opened(ODD)
    figure = ckpt.plot.hist(name)
    figure.savefig("/dev/null", format="png")
    (axes,) = figure.axes
    drawn = sum(bar.get_height() for bar in axes.containers[0]) if axes.containers else 0
    drawn += sum(stairs.get_data().values.sum() for stairs in axes.patches if hasattr(stairs, "get_data"))
    left = sum(int(part.split()[0]) for text in texts(figure) for part in text.split(" · ") if "not shown" in part)

    assert drawn + left == np.isfinite(ODD[name].astype(float)).sum()


def test_a_histogram_of_complex_numbers_is_of_magnitudes():
    """The picture says so."""
    ckpt = opened({"a": counting((2,))})
    ckpt["c"] = np.exp(1j * np.arange(99)) * 2

    assert ckpt.plot.hist("c").axes[0].get_xlabel() == "magnitude"


def test_only_tensors_have_histograms():
    """Strings and maps have their own errors; a wrong name is a KeyError."""
    ckpt = opened(MIXED)
    for name in ("note", "table"):
        with pytest.raises(ArgumentTypeError, match=name):
            ckpt.plot.hist(name)
    with pytest.raises(KeyError):
        ckpt.plot.hist("no such")


def test_sizes_reads_no_value():
    """A treemap needs only sizes."""
    source = TracingSource(checkpoint(MIXED))
    ckpt = opened_and_traced(source)
    ckpt.plot.sizes().savefig("/dev/null", format="png")

    assert source.looked_at() & set().union(*(places(ckpt.entry(name).all_extents) for name in MIXED)) == set()


def test_areas_are_sizes():
    """The rectangles of two values of 1 and 3 parts are as large."""
    figure = opened({"a": counting((300,)), "b": counting((100,))}).plot.sizes()
    areas = [patch.get_width() * patch.get_height() for patch in figure.axes[0].patches]

    assert areas[0] / areas[1] == pytest.approx(3)


@pytest.mark.parametrize("values", [{"one": np.zeros(5)}, {"none": np.zeros((0,), "int8")}, ODD])
def test_any_checkpoint_has_pictures(values):
    """Checkpoints of one value, of empty values and of odd ones are drawn without a warning."""
    ckpt = opened(values)
    for figure in (ckpt.plot.sizes(), ckpt.plot.norms()):
        figure.savefig("/dev/null", format="png")
        assert isinstance(figure, Figure)


@pytest.mark.parametrize("count", [5, 500])
def test_norms_are_those_of_the_values(count):
    """Few norms are drawn as bars, and many as points."""
    values = {f"l.{number}.w": np.full(4, number, "float32") for number in range(count)}
    (axes,) = opened(values).plot.norms().axes
    bars = [bar.get_width() for bar in axes.patches]
    points = [float(y) for dots in axes.collections for _, y in dots.get_offsets()]

    assert (bars or points) == [2.0 * number for number in range(count)]


def test_values_with_nan_are_hollow_and_counted():
    """A norm of finite numbers only says so."""
    values = {f"w{number}": np.array([number, math.nan if number == 3 else 1]) for number in range(60)}
    figure = opened(values).plot.norms()
    white = [dots for dots in figure.axes[0].collections if (dots.get_facecolor()[:, :3] == 1).all()]
    (hollow,) = [dots for dots in white if len(dots.get_offsets())]

    assert [int(x) for x, _ in hollow.get_offsets()] == [3]
    assert any("1 of them with NaN or Inf (hollow)" in text for text in texts(figure))


def test_white_text_is_readable_on_every_colour():
    """In each shade in use, the contrast is at least 4.5 (WCAG AA)."""

    def light(rgb):
        parts = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    shades = [plots._lighter(colour, share) for colour in plots.COLOURS for share in (0, plots.LIGHTER)]
    shades += [plots._darker(colour, 0.12) for colour in plots.COLOURS]

    assert [shade for shade in shades if 1.05 / (light(shade) + 0.05) < 4.5] == []


def test_labels_stay_inside_their_rectangles():
    """No text of a treemap is wider than the picture, and no two of them overlap."""
    values = {f"net.{word}{number}.w": counting((number * number + 1, 7)) for number in range(20) for word in "ab"}
    figure = opened(values).plot.sizes()
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    overlapping = [(one, two) for number, one in enumerate(boxes) for two in boxes[:number] if one.overlaps(two)]

    assert len(boxes) > 10
    assert overlapping == []


QUIET = """
import sys, numpy as np, matplotlib
settings = lambda: {name: dict.__getitem__(matplotlib.rcParams, name) for name in matplotlib.rcParams}
before = settings()
import lazyckpt
ckpt = lazyckpt.load_checkpoint(sys.argv[1], index="memory")
for figure in (ckpt.plot.sizes(), ckpt.plot.norms(), ckpt.plot.hist("step")):
    figure.savefig("/dev/null", format="png")
print("matplotlib.pyplot" in sys.modules, settings() == before)
"""


def test_pictures_open_no_window_and_change_no_setting(tmp_path):
    """pyplot, which would do both, is not even imported."""
    (tmp_path / "x.ckpt").write_bytes(checkpoint(MIXED))
    printed = subprocess.check_output([sys.executable, "-c", QUIET, str(tmp_path / "x.ckpt")], encoding="utf-8")

    assert printed == "False True\n"


@pytest.mark.parametrize("arguments", [["sizes"], ["norms"], ["hist", "conv1.weight"]])
def test_the_command_line_draws_into_a_file(tmp_path, monkeypatch, arguments):
    """`lazyckpt plot`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.ckpt").write_bytes(checkpoint(MIXED))
    with pytest.raises(SystemExit) as ended:
        cli.app(["plot", arguments[0], "net.ckpt", *arguments[1:], "-o", "net.png"])

    assert ended.value.code == 0
    assert (tmp_path / "net.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["hist", "net.ckpt", "-o", "x.png"], 2, "hist needs a NAME"),
        (["hist", "net.ckpt", "conv1.wieght", "-o", "x.png"], 1, "did you mean 'conv1.weight'"),
        (["hist", "net.ckpt", "note", "-o", "x.png"], 1, "tensors only"),
        (["sizes", "net.ckpt", "-o", "x.nothing"], 1, "x.nothing"),
        (["sizes", "net.ckpt", "-o", "no/x.png"], 1, "cannot be written"),
    ],
)
def test_the_command_line_says_what_cannot_be_drawn(tmp_path, monkeypatch, capsys, arguments, code, complaint):
    """One line, no traceback."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.ckpt").write_bytes(checkpoint(MIXED))
    with pytest.raises(SystemExit) as ended:
        cli.app(["plot", *arguments])

    assert (ended.value.code, complaint in capsys.readouterr().err) == (code, True)


def test_pandas_gets_the_statistics():
    """The names are its index."""
    frame = opened({"a": np.array([[1, -2], [0, 5]], "float32"), "note": "x"}).stats().to_pandas()

    assert isinstance(frame, pd.DataFrame)
    assert frame.loc["a", "norm"] == pytest.approx(math.sqrt(30))
    assert list(frame.index) == ["a", "note"]


def test_a_figure_is_not_written_over_its_checkpoint(tmp_path):
    """A figure knows the file that it shows, also by another name; other paths are written as in matplotlib."""
    path, link = tmp_path / "net.ckpt", tmp_path / "link.png"
    path.write_bytes(checkpoint(MIXED))
    link.symlink_to(path)
    with lazyckpt.load_checkpoint(path) as ckpt:
        figures = [ckpt.plot.sizes(), ckpt.plot.hist("fc.weight"), ckpt.plot.norms()]
    for figure in figures:
        for name in (link, str(path)):
            with pytest.raises(FileInTheWay, match="is the input"):
                figure.savefig(name, format="png")
        figure.savefig(tmp_path / "figure.png")

    assert path.read_bytes() == checkpoint(MIXED)


def test_a_picture_without_an_ending_is_a_png_and_kept(tmp_path, monkeypatch):
    """`plot -o NAME` writes NAME.png, which is replaced only with `--force`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.ckpt").write_bytes(checkpoint(MIXED))
    command = ["plot", "sizes", "net.ckpt", "-o", "picture"]
    codes = [
        CliRunner().invoke(cli.app, arguments).exit_code for arguments in (command, command, [*command, "--force"])
    ]

    assert codes == [0, 1, 0]
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
