"""Saving: the name is here so that callers get a clear answer; the work is not done yet."""

from __future__ import annotations

from typing import Any, NoReturn

from lazyckpt.errors import NotSupportedYet


def save_checkpoint(*args: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG001 (MindSpore's arguments, whatever they are)
    """Not offered yet.

    Raises:
        NotSupportedYet: always. `Checkpoint.to_mindspore()` gives a dict that `mindspore.save_checkpoint` takes.
    """
    raise NotSupportedYet(
        "saving checkpoints is not supported yet; ckpt.to_mindspore() gives a dict that mindspore.save_checkpoint takes"
    )
