"""Load a MindSpore checkpoint into a torch net with different names and layouts.

    python examples/to_torch.py               # writes a small checkpoint first
    python examples/to_torch.py model.ckpt    # a checkpoint with the names and shapes below

For another net, rewrite `RULES`: they map MindSpore's names to torch's, and say which matrices to transpose. gamma and
beta of normalisation layers need no rule for their last part: `norm_names=True` translates it.
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
# MindSpore's name, torch's name, and whether to transpose the matrix. nn.Dense and nn.Linear both store (out, in).
# A layer that computes `x @ weight`, as in many language models, stores (in, out).
RULES = (
    (r"embedding\.embedding_table", "words.weight", False),
    (r"(layers\.\d+)\.mapping\.weight", r"\1.up.weight", True),
    (r"(layers\.\d+)\.mapping\.bias", r"\1.up.bias", False),
    (r"(layers\.\d+)\.projection\.(weight|bias)", r"\1.down.\2", False),
    (r"(layers\.\d+\.norm|norm)\.(gamma|beta)", r"\1.\2", False),
)


class Layer(nn.Module):
    """A normalised feed-forward layer with a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The result has the shape of x: (words, WIDTH)."""
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Net(nn.Module):
    """A net that maps words to vectors."""

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
    """Write a random checkpoint with MindSpore's names, and a value that inference does not use."""
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
    """The values that match a rule, under torch's names. Transposed values are views of the file; nothing is read."""
    found: dict[str, lazyckpt.Parameter | np.ndarray] = {}
    for name in ckpt:
        for pattern, replacement, transposed in RULES:
            if re.fullmatch(pattern, name):
                value = ckpt[name]
                found[re.sub(pattern, replacement, name)] = value.asnumpy().T if transposed else value
    return found


def loaded(path: Path) -> tuple[Net, list[str], list[str]]:
    """Load a checkpoint into a net. Returns the net, its missing names, and the unused names of the checkpoint."""
    net = Net()
    with lazyckpt.load_checkpoint(path) as ckpt:
        known = renamed(ckpt)
        missing, unused = load_into(net, known, norm_names=True)
        without = [name for name in ckpt if not any(re.fullmatch(pattern, name) for pattern, _, _ in RULES)]
    return net.eval(), missing, [*unused, *without]


def main() -> None:
    """Load a checkpoint, and run the net once."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument(
        "checkpoint", nargs="?", type=Path, help="a checkpoint with the names of RULES (default: a generated one)"
    )
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
