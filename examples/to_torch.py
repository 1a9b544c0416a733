"""Load a MindSpore checkpoint into a torch net whose names and layouts are other ones.

    python examples/to_torch.py               # makes a small checkpoint of its own
    python examples/to_torch.py model.ckpt    # one with the names and shapes below

`RULES` is the part to write for another net: how names of the one become names of the other, and which matrices lie
the other way round. Names of normalisation layers need no rule: `norm_names=True` knows gamma and beta.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

import lazyckpt
from lazyckpt.frameworks.torch import load_into

WORDS = 50
WIDTH = 16
DEPTH = 2
# MindSpore's name, torch's name, and whether the matrix is to be transposed. nn.Dense and nn.Linear agree: (out, in).
# A layer that multiplies `x @ weight`, as many language models do, keeps (in, out).
RULES = (
    (r"embedding\.embedding_table", "words.weight", False),
    (r"(layers\.\d+)\.mapping\.weight", r"\1.up.weight", True),
    (r"(layers\.\d+)\.mapping\.bias", r"\1.up.bias", False),
    (r"(layers\.\d+)\.projection\.(weight|bias)", r"\1.down.\2", False),
    (r"(layers\.\d+\.norm|norm)\.(gamma|beta)", r"\1.\2", False),
)


class Layer(nn.Module):
    """A normalised feed-forward layer beside its input."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same shape as x: (words, WIDTH)."""
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Net(nn.Module):
    """Words in, vectors out."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Vectors of shape (words, WIDTH)."""
        x = self.words(numbers)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


def made_checkpoint(path: Path) -> None:
    """Write a checkpoint of random numbers as a MindSpore net has them, with a value that no inference needs."""
    chance = np.random.default_rng(3)

    def normal(*shape: int) -> np.ndarray:
        return chance.normal(0, 0.5, shape).astype(np.float32)

    values = {"embedding.embedding_table": normal(WORDS, WIDTH)}
    for number in range(DEPTH):
        values |= {
            f"layers.{number}.norm.gamma": 1 + normal(WIDTH),
            f"layers.{number}.norm.beta": normal(WIDTH),
            f"layers.{number}.mapping.weight": normal(WIDTH, 4 * WIDTH),
            f"layers.{number}.mapping.bias": normal(4 * WIDTH),
            f"layers.{number}.projection.weight": normal(WIDTH, 4 * WIDTH),
            f"layers.{number}.projection.bias": normal(WIDTH),
        }
    values |= {"norm.gamma": 1 + normal(WIDTH), "norm.beta": normal(WIDTH), "global_step": np.array([100], np.int32)}
    lazyckpt.save_checkpoint(values, path)


def renamed(ckpt: lazyckpt.Checkpoint) -> Mapping[str, lazyckpt.Parameter | np.ndarray]:
    """What the rules know, under torch's names. A transposed value is a view of the file: no value is read here."""
    found: dict[str, lazyckpt.Parameter | np.ndarray] = {}
    for name in ckpt:
        for pattern, replacement, transposed in RULES:
            if re.fullmatch(pattern, name):
                value = ckpt[name]
                found[re.sub(pattern, replacement, name)] = value.asnumpy().T if transposed else value
    return found


def loaded(path: Path) -> tuple[Net, list[str], list[str]]:
    """The net with a checkpoint's values, what it did not find, and what of the checkpoint has no rule."""
    net = Net()
    with lazyckpt.load_checkpoint(path) as ckpt:
        known = renamed(ckpt)
        missing, unused = load_into(net, known, norm_names=True)
        without = [name for name in ckpt if not any(re.fullmatch(pattern, name) for pattern, _, _ in RULES)]
    return net.eval(), missing, [*unused, *without]


def main() -> None:
    """Load, and show what a net made of it gives."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("checkpoint", nargs="?", type=Path, help="a checkpoint with the names of RULES (a made one)")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = given.checkpoint or Path(folder) / "model.ckpt"
        if given.checkpoint is None:
            made_checkpoint(path)
        net, missing, unused = loaded(path)
    print("not found:", ", ".join(missing) or "nothing")
    print("not used:", ", ".join(unused) or "nothing")
    with torch.no_grad():
        print("three words:", net(torch.tensor([1, 2, 3])).shape)


if __name__ == "__main__":
    main()
