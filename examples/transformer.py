"""Write a checkpoint like that of a small language model, for the tour.

python examples/transformer.py model.ckpt
"""

from __future__ import annotations

import sys

import numpy as np

import lazyckpt

WIDTH = 64
WORDS = 1_000
LAYERS = 12


def weights() -> dict[str, np.ndarray | str]:
    """The values by name; they are the same in every run."""
    chance = np.random.default_rng(2024)

    def normal(*shape: int, scale: float = 0.02) -> np.ndarray:
        return (scale * chance.standard_normal(shape)).astype(np.float32)

    values: dict[str, np.ndarray | str] = {"model.embedding.weight": normal(WORDS, WIDTH)}
    for layer in range(LAYERS):
        base = f"model.layers.{layer}"
        for part in ("q", "k", "v", "out"):
            values[f"{base}.attention.{part}.weight"] = normal(WIDTH, WIDTH)
        values[f"{base}.attention.norm.gamma"] = 1 + normal(WIDTH)
        values[f"{base}.mlp.up.weight"] = normal(4 * WIDTH, WIDTH, scale=0.01 * (layer + 1))
        values[f"{base}.mlp.down.weight"] = normal(WIDTH, 4 * WIDTH)
        values[f"{base}.mlp.norm.gamma"] = 1 + normal(WIDTH)
    values["model.norm.gamma"] = 1 + normal(WIDTH)
    values["head.weight"] = normal(WORDS, WIDTH).astype(np.float16)
    values["step"] = np.array(1_200, np.int64)
    values["note"] = "trained on nothing at all"
    values["model.layers.7.mlp.up.weight"][3, 5] = np.nan  # type: ignore[index]  # for `stats` to find
    return values


if __name__ == "__main__":
    lazyckpt.save_checkpoint(weights(), sys.argv[1])
