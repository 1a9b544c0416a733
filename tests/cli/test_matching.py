"""`lazyckpt match`: its report and exit codes."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from checkpoints import LAYERS, checkpoint

from lazyckpt.explore.match import match


@pytest.fixture
def matched(run, tmp_path, monkeypatch):
    """Runs `lazyckpt match` on LAYERS with these names: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.ckpt").write_bytes(checkpoint(LAYERS))

    def matched(names, *options):
        (tmp_path / "names.json").write_text(names if isinstance(names, str) else json.dumps(names))
        return run("match", "net.ckpt", "--names", "names.json", *options)

    return matched


FITTING = {name: [list(array.shape), array.dtype.name.capitalize()] for name, array in LAYERS.items()}


def test_the_command_ends_well_if_all_fits(matched):
    """Exit code 0, and the report on stdout."""
    code, printed, complaints = matched(FITTING)

    assert (code, complaints) == (0, "")
    assert printed.endswith("\n5 loads\n")


@pytest.mark.parametrize(
    "names", [["conv1.weight", "head"], {"step": [[2], "Int64"]}, {"step": [[], "Float32"]}, ["conv1.weights"]]
)
def test_the_command_ends_badly_if_not(matched, names):
    """Exit code 1 if something is missing or refused; the report is printed all the same."""
    code, printed, complaints = matched(names)

    assert (code, complaints) == (1, "")
    assert re.search(r"1 (missing|refused)", printed)


@pytest.mark.parametrize("names", [FITTING, list(LAYERS), ["conv1.weights", "half \ud800"]])
def test_the_command_speaks_json(matched, names):
    """With --json it is `to_dict`, and the exit code is the same."""
    code, printed, _ = matched(names, "--json")
    report = match(names, {name: np.asarray(array) for name, array in LAYERS.items()})

    assert json.loads(printed) == report.to_dict()
    assert code == (0 if report.fits else 1)


WRONG_NAMES = {
    "no object": "{", "a number": "5", "a text": '"conv1.weight"', "a list of a number": "[1]",
    "no facts": '{"step": 5}', "no shape": '{"step": [5, "Int64"]}', "nothing": "",
    "a dimension beyond floats": '{"step": [[1e400], "Int64"]}', "half a dimension": '{"step": [[1.5], "Int64"]}',
    "nested too deeply": "[" * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("names", WRONG_NAMES.values(), ids=WRONG_NAMES)
def test_the_command_tells_what_is_wrong_with_the_names(matched, names):
    """Exit code 1 and one line on stderr: no JSON, or no names."""
    code, printed, complaints = matched(names)

    assert (code, printed) == (1, "")
    assert complaints.startswith("lazyckpt: ")
    assert complaints.count("\n") == 1


def test_the_command_needs_names(matched, run):
    """Without `--names` the exit code is 2; with a missing names file it is 1."""
    assert run("match", "net.ckpt")[0] == 2
    code, _, complaints = run("match", "net.ckpt", "--names", "no.json")

    assert (code, complaints.count("\n")) == (1, 1)
    assert complaints.startswith("lazyckpt: no.json does not exist")
