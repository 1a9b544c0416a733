"""A program that uses every public name, for type checkers: what they make of it is asserted, and it runs as well.

mypy --strict consumer.py
pyright consumer.py
python consumer.py net.ckpt     # any plain checkpoint; writes copy.ckpt and copy.safetensors to where it stands
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import lazyckpt
from lazyckpt import (
    Checkpoint,
    Index,
    KeyReference,
    Parameter,
    build_index,
    build_indexes,
    diagnose,
    diff,
    errors,
    load_checkpoint,
    load_param_into_net,
    match,
    open_sharded,
    salvage,
    save_checkpoint,
    verify,
)

if TYPE_CHECKING:
    from typing_extensions import assert_type
else:

    def assert_type(value: Any, _: Any) -> Any:
        """What `typing.assert_type` does when a program runs (it needs Python 3.11)."""
        return value


def opened(path: Path) -> list[str]:
    """Open a checkpoint in every way there is, and look at it."""
    index = build_index(path, digest="blake2b")
    assert_type(index, Index)
    assert_type(len(index), int)
    assert_type(index.has_digests, bool)
    index.close()
    with load_checkpoint(path) as ckpt:
        assert_type(ckpt, Checkpoint)
        name = next(iter(ckpt))
        assert_type(name, str)
        value = ckpt[name]
        if isinstance(value, Parameter):
            assert_type(value.shape, tuple[int, ...])
            assert_type(value.nbytes, int)
            array: np.ndarray[Any, Any] = value.asnumpy()
            value.set_data(np.zeros_like(array))
            assert_type(value.tobytes(), bytes)
        part = ckpt.select(lambda each: each.endswith("weight"))
        assert_type(part, Checkpoint)
        assert_type(part.load(list(part)[:1]), dict[str, Any])
        assert_type(ckpt.summary(), dict[str, Any])
        assert_type(str(ckpt.tree(depth=1)), str)
        assert_type(str(ckpt.stats()), str)
        saved = ckpt.save("copy.safetensors", ["*", lambda each: True], dtype={"*": None})
        assert_type(saved[0], str)
        assert_type(saved.casts.underflowed, dict[str, int])
        report = match({name: ((1,), "Float32")}, ckpt)
        assert_type(str(report), str)
        save_checkpoint(ckpt, "copy.ckpt", append_dict={"epoch": 3})
        return list(ckpt)


def compared(one: Path, other: Path) -> bool:
    """Check two checkpoints, compare them, and index both."""
    checked = verify(one)
    assert_type(checked.intact, bool)
    report = diagnose(other, values=True)
    assert_type(report.healthy, bool)
    assert_type(report.summary(), str)
    with salvage(other) as found:
        assert_type(found.checkpoint, Checkpoint)
        assert_type(found.lost, tuple[str, ...])
    results = build_indexes([one, other])
    assert_type(results[0].error, str)
    assert_type(results[0].parameters, int)
    told = diff(one, other, names=["*.weight"])
    assert_type(told.same, bool)
    return told.same


def encrypted(path: Path) -> Checkpoint | None:
    """Open a file whose key lies in a variable, if it has one."""
    key = KeyReference(variable="CKPT_KEY")
    assert_type(key.variable, "str | None")
    try:
        return load_checkpoint(path, dec_key=key, dec_mode="AES-GCM")
    except errors.FileFault as fault:
        assert_type(fault.offset, "int | None")
        return None
    except errors.LazyCkptError as error:
        print(error)
        return None


def bound(net: Any, folder: str) -> Sequence[str]:
    """Fill a MindSpore net from a folder of parts."""
    with open_sharded(folder, collisions="first") as parts:
        assert_type(parts, Checkpoint)
        missing, unused = load_param_into_net(net, parts)
        assert_type(missing, list[str])
        return unused


def main(path: Path) -> None:
    """Everything that needs no net."""
    print(lazyckpt.__version__, *opened(path))
    found = encrypted(Path("copy.ckpt"))
    if found is not None:
        found.close()
    print("the copies are the same:", compared(Path("copy.ckpt"), Path("copy.safetensors")))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
