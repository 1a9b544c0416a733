"""Fine-tune a LeNet with MindSpore: load layers from a checkpoint, and train a new head.

    python examples/finetune_mindspore.py                          # the LeNet included in lazyckpt, synthetic images
    python examples/finetune_mindspore.py LeNet5-1_32.ckpt -o tuned.ckpt --classes 4 --steps 40

The old head is never read. The dense layers are trained for some steps on synthetic images while the convolutions are
frozen. Then the result is saved and compared with the original checkpoint.
"""

from __future__ import annotations

import argparse
import importlib.resources
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn

import lazyckpt

HEAD = "fc3"
FROZEN = "conv"
SIDE = 32  # pixels
BATCH = 16


class LeNet5(nn.Cell):
    """LeNet for images of one channel, with the parameter names that MindSpore uses."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, pad_mode="valid")
        self.conv2 = nn.Conv2d(6, 16, 5, pad_mode="valid")
        self.fc1 = nn.Dense(16 * 5 * 5, 120)
        self.fc2 = nn.Dense(120, 84)
        self.fc3 = nn.Dense(84, classes)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2, 2)
        self.flatten = nn.Flatten()

    def construct(self, images: ms.Tensor) -> ms.Tensor:
        """The scores of the classes."""
        found = self.pool(self.relu(self.conv1(images)))
        found = self.flatten(self.pool(self.relu(self.conv2(found))))
        return self.fc3(self.relu(self.fc2(self.relu(self.fc1(found)))))


def made_images(classes: int, chance: np.random.Generator) -> tuple[ms.Tensor, ms.Tensor]:
    """A batch of noise in which a band of bright rows marks the class."""
    labels = chance.integers(0, classes, BATCH)
    images = chance.normal(0, 0.1, (BATCH, 1, SIDE, SIDE)).astype(np.float32)
    height = SIDE // classes
    for image, label in zip(images, labels, strict=True):
        image[0, label * height : (label + 1) * height] += 1
    return ms.Tensor(images), ms.Tensor(labels.astype(np.int32))


def train(net: LeNet5, classes: int, steps: int) -> list[float]:
    """Train the parameters that are not frozen; returns the loss at each step."""
    chance = np.random.default_rng(1)
    loss_of = nn.CrossEntropyLoss()
    optimizer = nn.Adam(net.trainable_params(), learning_rate=0.02)
    step = ms.value_and_grad(lambda images, labels: loss_of(net(images), labels), None, optimizer.parameters)
    losses = []
    for _ in range(steps):
        loss, gradients = step(*made_images(classes, chance))
        optimizer(gradients)
        losses.append(float(loss.asnumpy()))
    return losses


def main() -> None:
    """Load, train, save and compare."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("checkpoint", nargs="?", help="a checkpoint of LeNet5 (default: the one included in lazyckpt)")
    options.add_argument("-o", "--output", default="tuned.ckpt", help="where to save the result")
    options.add_argument("--classes", type=int, default=4)
    options.add_argument("--steps", type=int, default=40)
    given = options.parse_args()

    packed = importlib.resources.files("lazyckpt") / "demo_data" / "LeNet5-1_32.ckpt"
    with importlib.resources.as_file(packed) as own:
        before = Path(given.checkpoint or own)
        net = LeNet5(given.classes)
        index = "auto" if given.checkpoint else "memory"  # do not write into the installed package
        with lazyckpt.load_checkpoint(before, filter_prefix=HEAD, index=index) as backbone:
            missing, _ = lazyckpt.load_param_into_net(net, backbone)
            print("loaded:", *backbone)
        print("not loaded:", *missing)

        for parameter in net.get_parameters():
            parameter.requires_grad = not parameter.name.startswith(FROZEN)
        losses = train(net, given.classes, given.steps)
        print(f"loss: {losses[0]:.3f} -> {losses[-1]:.3f}")

        lazyckpt.save_checkpoint(net, given.output)
        with lazyckpt.load_checkpoint(before, index=index) as old, lazyckpt.load_checkpoint(given.output) as new:
            print(lazyckpt.diff(old, new))


if __name__ == "__main__":
    main()
