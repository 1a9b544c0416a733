"""lazyckpt: open MindSpore checkpoints lazily, and read only the values you use.

>>> import lazyckpt
>>> ckpt = lazyckpt.load_checkpoint("lenet.ckpt")  # doctest: +SKIP
>>> ckpt["conv2.weight"]  # doctest: +SKIP
Parameter (name=conv2.weight, shape=(16, 6, 5, 5), dtype=Float32, requires_grad=True)

Each public name is imported on first use, so that importing the package is fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lazyckpt import errors
    from lazyckpt.checkpoint import Checkpoint
    from lazyckpt.explore.diff import diff
    from lazyckpt.explore.doctor import diagnose
    from lazyckpt.explore.match import match
    from lazyckpt.explore.salvage import salvage
    from lazyckpt.explore.verify import verify
    from lazyckpt.frameworks.nets import load_param_into_net
    from lazyckpt.index import Index
    from lazyckpt.index.batch import build_indexes
    from lazyckpt.index.build import build_index
    from lazyckpt.loading import load_checkpoint
    from lazyckpt.parameter import Parameter
    from lazyckpt.saving import save_checkpoint
    from lazyckpt.sharding.opening import open_sharded
    from lazyckpt.sources.encryption.keys import KeyReference

__version__ = "0.1.0"

__all__ = [
    "Checkpoint",
    "Index",
    "KeyReference",
    "Parameter",
    "build_index",
    "build_indexes",
    "diagnose",
    "diff",
    "errors",
    "load_checkpoint",
    "load_param_into_net",
    "match",
    "open_sharded",
    "salvage",
    "save_checkpoint",
    "verify",
]

_HOMES = {
    "Checkpoint": "lazyckpt.checkpoint",
    "Index": "lazyckpt.index",
    "KeyReference": "lazyckpt.sources.encryption.keys",
    "Parameter": "lazyckpt.parameter",
    "build_index": "lazyckpt.index.build",
    "build_indexes": "lazyckpt.index.batch",
    "diagnose": "lazyckpt.explore.doctor",
    "diff": "lazyckpt.explore.diff",
    "load_checkpoint": "lazyckpt.loading",
    "load_param_into_net": "lazyckpt.frameworks.nets",
    "match": "lazyckpt.explore.match",
    "open_sharded": "lazyckpt.sharding.opening",
    "salvage": "lazyckpt.explore.salvage",
    "save_checkpoint": "lazyckpt.saving",
    "verify": "lazyckpt.explore.verify",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("lazyckpt.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'lazyckpt' has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
