"""examples/to_torch.py: a torch net computes with the values of a MindSpore checkpoint."""

from __future__ import annotations

import sys

import numpy as np
import torch
from example_runs import module, run

import lazyckpt

example = module("to_torch")


def normalised(x, gain, shift):
    """LayerNorm of the rows of x."""
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * gain + shift


def computed(values, numbers):
    """The net in numpy, with MindSpore's names and layouts, in float64."""
    x = values["embedding.embedding_table"][numbers].astype(np.float64)
    for number in range(example.DEPTH):
        own = {name: values[f"layers.{number}.{name}"] for name in ("norm.gamma", "norm.beta")}
        inner = normalised(x, own["norm.gamma"], own["norm.beta"])
        inner = inner @ values[f"layers.{number}.mapping.weight"] + values[f"layers.{number}.mapping.bias"]
        inner = np.maximum(inner, 0) @ values[f"layers.{number}.projection.weight"].T
        x = x + inner + values[f"layers.{number}.projection.bias"]
    return normalised(x, values["norm.gamma"], values["norm.beta"])


def test_the_torch_net_computes_what_the_checkpoint_says(tmp_path):
    """The outputs are equal for every word, to the precision of float32."""
    path = tmp_path / "model.ckpt"
    example.made_checkpoint(path)
    net, _, _ = example.loaded(path)
    with lazyckpt.load_checkpoint(path) as ckpt:
        wanted = computed(ckpt.load(), np.arange(example.WORDS))
    with torch.no_grad():
        found = net(torch.arange(example.WORDS)).numpy()

    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_it_shows_what_fits_and_what_is_left(tmp_path):
    """For a given file, every value of the net is found, and values without a rule are named."""
    example.made_checkpoint(tmp_path / "model.ckpt")
    code, printed, complaints = run([sys.executable, "to_torch.py"], "model.ckpt", folder=tmp_path)

    assert (code, complaints) == (0, "")
    assert printed.splitlines()[:2] == ["not found: nothing", "not used: global_step"]


def test_without_a_path_it_makes_a_checkpoint_and_leaves_nothing(tmp_path):
    """The folder in which it ran is unchanged."""
    code, printed, complaints = run([sys.executable, "to_torch.py"], folder=tmp_path)

    assert (code, complaints) == (0, "")
    assert "torch.Size([3, 16])" in printed
    assert list(tmp_path.iterdir()) == []
