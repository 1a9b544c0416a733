"""lazyckpt: open MindSpore checkpoints lazily, and read only what you look at.

>>> import lazyckpt
>>> ckpt = lazyckpt.load_checkpoint("lenet.ckpt")  # doctest: +SKIP
>>> ckpt["conv2.weight"]  # doctest: +SKIP
Parameter (name=conv2.weight, shape=(16, 6, 5, 5), dtype=Float32, requires_grad=True)
"""

from lazyckpt import errors
from lazyckpt.checkpoint import Checkpoint
from lazyckpt.explore.match import match
from lazyckpt.index import Index
from lazyckpt.index.build import build_index
from lazyckpt.loading import load_checkpoint
from lazyckpt.nets import load_param_into_net
from lazyckpt.parameter import Parameter
from lazyckpt.saving import save_checkpoint

__version__ = "0.1.0"

__all__ = [
    "Checkpoint",
    "Index",
    "Parameter",
    "build_index",
    "errors",
    "load_checkpoint",
    "load_param_into_net",
    "match",
    "save_checkpoint",
]
