"""What references to a checkpoint must lead to, in a comparable form."""

from __future__ import annotations

import numpy as np
from checkpoints import MIXED

from lazyckpt.loading import open_all

TENSORS = {name: value for name, value in MIXED.items() if isinstance(value, np.ndarray)}


def written(tmp_path, data, name="net.ckpt"):
    """A file of these bytes, open."""
    (tmp_path / name).write_bytes(data)
    return open_all(tmp_path / name, index="memory")


def outcome(found):
    """Arrays, and texts, as what can be compared."""
    return {
        name: str(array) if array.dtype.kind == "U" else (array.dtype, array.shape, array.tobytes())
        for name, array in found.items()
    }


def expected(ckpt):
    """What must be found of a checkpoint whose names need no change, as `outcome`."""
    values = {}
    for name, value in ckpt.load().items():
        if isinstance(value, list):
            values.update(
                {f"{name}~{part}": one for part, one in zip(("keys", "values", "status"), value, strict=True)}
            )
        else:
            values[name] = np.asarray(value) if isinstance(value, str) else value
    return outcome(values)
