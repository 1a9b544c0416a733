"""The tour runs from top to bottom in a real kernel, and its cells show what the text claims."""

from __future__ import annotations

import base64

import nbformat
import pytest
from page import TOUR

pytestmark = pytest.mark.filterwarnings("default")  # Jupyter's own


def outputs(notebook, beginning):
    """The output of the first cell with this beginning: type -> content, streams as `text`."""
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.startswith(beginning))
    given = {}
    for output in cell.outputs:
        given.update(output.get("data", {"text": output.get("text")}))
    return given


def test_the_tour_is_kept_without_outputs():
    """The repository contains only the source of the tour."""
    notebook = nbformat.read(TOUR, as_version=4)

    assert [cell for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")] == []


def test_no_cell_complains(executed):
    """No error, and nothing on stderr."""
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]

    assert [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"] == []


def test_a_checkpoint_shows_its_tree(executed):
    """The tree is folded HTML."""
    shown = outputs(executed, "ckpt")["text/html"]

    assert "model.ckpt" in shown
    assert "layers.0–11" in shown
    assert "12 alike" in shown


def test_a_tree_prints(executed):
    """The selected part, two levels deep."""
    printed = outputs(executed, "print(ckpt.select")["text"]

    assert "8 values" in printed
    assert "mlp" in printed


def test_a_part_is_selected_and_read(executed):
    """The last norm and two of each layer; one layer alone has its eight values."""
    assert outputs(executed, "norms = ")["text/plain"] == "(25, (64,))"
    assert len(outputs(executed, "with lazyckpt")["text"].splitlines()) == 8


def test_the_statistics_find_the_nan(executed):
    """The NaN is in the first row."""
    shown = outputs(executed, "table = ")["text/html"]

    assert shown.index("model.layers.7.mlp.up.weight") < shown.index("</tr>", shown.index("<tbody>"))
    assert outputs(executed, "print(table")["text"] == "1 NaN; a string is not measured\n"


@pytest.mark.parametrize("picture", ["sizes", "norms", "hist"])
def test_pictures_are_shown(executed, picture):
    """Each plot is shown once, as a PNG."""
    data = base64.b64decode(outputs(executed, f"ckpt.plot.{picture}")["image/png"])

    assert data[:8] == b"\x89PNG\r\n\x1a\n"


def test_edits_are_shown_and_saved(executed):
    """The tree shows the edits, and the new file has them."""
    assert "2 set in memory · 1 taken out" in outputs(executed, "import numpy")["text/html"]
    assert outputs(executed, "ckpt.save")["text"] == "101 edited Float16\n"


def test_differences_are_shown(executed):
    """The differences are the set, added and removed values, and no others."""
    shown = outputs(executed, "lazyckpt.diff")["text/html"]

    assert [name in shown for name in ("model.norm.gamma", "remark", "step", "head.weight")] == [
        True,
        True,
        True,
        False,
    ]
