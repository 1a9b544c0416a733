"""examples/finetune_mindspore.py: layers from a checkpoint, a new head, and training of the head."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import mindspore as ms
import pytest
from example_runs import run

import lazyckpt

LENET = Path(lazyckpt.__file__).parent / "demo_data" / "LeNet5-1_32.ckpt"
FROZEN = {"conv1.weight", "conv2.weight"}
TRAINED = {f"fc{number}.{part}" for number in (1, 2, 3) for part in ("weight", "bias")}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The example's output, and the folder in which it ran on a copy of the checkpoint."""
    folder = tmp_path_factory.mktemp("tuned")
    shutil.copy(LENET, folder / "net.ckpt")
    code, printed, complaints = run(
        [sys.executable, "finetune_mindspore.py"], "net.ckpt", "-o", "out.ckpt", "--classes", 5, folder=folder
    )
    assert code == 0, complaints
    return printed, folder


def test_the_net_learns(tuned):
    """The loss at the end is less than half of that at the beginning."""
    first, last = map(float, re.search(r"loss: ([\d.]+) -> ([\d.]+)", tuned[0]).groups())

    assert last < first / 2


def test_the_convolutions_stay_as_they_were(tuned):
    """The saved file has their very bytes, other numbers in all that was trained, and a head of five classes."""
    with lazyckpt.load_checkpoint(LENET, index="memory") as old, lazyckpt.load_checkpoint(tuned[1] / "out.ckpt") as new:
        assert {name for name in new if name in old and new[name].tobytes() == old[name].tobytes()} == FROZEN
        assert new["fc3.weight"].shape == (5, 84)


def test_mindspore_loads_what_was_saved(tuned):
    """MindSpore loads the saved file with all names of the net."""
    assert set(ms.load_checkpoint(str(tuned[1] / "out.ckpt"))) == FROZEN | TRAINED


def test_without_a_path_it_takes_the_net_that_the_package_brings_along(tmp_path):
    """Without a path it uses the packaged net, and leaves nothing beside it."""
    before = sorted(LENET.parent.iterdir())
    code, printed, complaints = run([sys.executable, "finetune_mindspore.py"], "--steps", 1, folder=tmp_path)

    assert code == 0, complaints
    assert "not loaded: fc3.weight fc3.bias" in printed
    assert sorted(LENET.parent.iterdir()) == before
