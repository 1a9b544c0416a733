"""Write the checkpoint that the package includes, with a real MindSpore.

    python -m venv ms && ms/bin/pip install "mindspore==2.10.0" "numpy<2" && ms/bin/python tools/make_golden.py

Writes lazyckpt/demo_data/LeNet5-1_32.ckpt: LeNet5 with normally distributed weights from a fixed seed.
"""

from pathlib import Path

import mindspore as ms
import numpy as np

SHAPES = {
    "conv1.weight": (6, 1, 5, 5),
    "conv2.weight": (16, 6, 5, 5),
    "fc1.weight": (120, 400),
    "fc1.bias": (120,),
    "fc2.weight": (84, 120),
    "fc2.bias": (84,),
    "fc3.weight": (10, 84),
    "fc3.bias": (10,),
}


def main() -> None:
    """Write the checkpoint of the demo."""
    random = np.random.default_rng(20_24)
    values = [
        {"name": name, "data": ms.Tensor((random.standard_normal(shape) * 0.02).astype(np.float32))}
        for name, shape in SHAPES.items()
    ]
    target = Path(__file__).parents[1] / "lazyckpt" / "demo_data" / "LeNet5-1_32.ckpt"
    target.parent.mkdir(exist_ok=True)
    ms.save_checkpoint(values, str(target))
    target.chmod(0o644)
    print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
