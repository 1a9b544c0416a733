"""Beside a real MindSpore: lazyckpt reads the values that MindSpore wrote.

Run where MindSpore is installed: `python -m pytest tests/interop/mindspore`. Not part of the ordinary suite.
"""

from __future__ import annotations

import subprocess
import sys
import zlib

import mindspore as ms
import numpy as np
import pytest
from mindspore.train import serialization

import lazyckpt

KEYS = {16: bytes(range(1, 17)), 24: bytes(range(1, 25)), 32: bytes(range(1, 33))}
ENCRYPTIONS = [("AES-GCM", size) for size in KEYS] + [("AES-CBC", size) for size in KEYS] + [("SM4-CBC", 16)]
DTYPES = [
    *("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float16", "float32", "float64", "bool_", "bfloat16"),
]


def values(count=6):
    """Tensors of some shapes, from a fixed seed."""
    random = np.random.default_rng(7)
    shapes = [(), (3,), (4, 5), (2, 3, 4), (1, 1), (7, 1, 2)]
    return {f"layer.{n}.w": random.standard_normal(shapes[n % 6]).astype(np.float32) for n in range(count)}


def save(path, arrays, **options):
    """Let MindSpore write a checkpoint."""
    ms.save_checkpoint([{"name": name, "data": ms.Tensor(array)} for name, array in arrays.items()], path, **options)


def differences(path, **options):
    """Names whose value, dtype or shape lazyckpt and MindSpore see differently; empty when they agree in all."""
    theirs = ms.load_checkpoint(path, **options)
    found = []
    with lazyckpt.load_checkpoint(path, **options) as ours:
        if list(ours) != list(theirs):
            return ["the names"]
        for name, value in theirs.items():
            mine = ours[name]
            same = str(mine) == str(value) and (isinstance(value, str) or mine.tobytes() == raw(value))
            if not same:
                found.append(name)
    return found


def raw(parameter):
    """A MindSpore parameter's bytes."""
    return bytes(parameter.get_bytes()) if hasattr(parameter, "get_bytes") else parameter.asnumpy().tobytes()


def test_plain(tmp_path):
    """A plain checkpoint gives MindSpore's names, reprs and bytes, first without an index, then with one."""
    path = str(tmp_path / "a.ckpt")
    save(path, values())

    assert [differences(path), differences(path)] == [[], []]


@pytest.mark.parametrize("name", DTYPES)
def test_dtypes(tmp_path, name):
    """Every dtype that MindSpore saves comes back as the same bytes under the same name."""
    path = str(tmp_path / "a.ckpt")
    tensor = ms.Tensor(np.array([[0, 1, 2], [3, 100, 127]]), ms.float32 if name == "bfloat16" else getattr(ms, name))
    if name == "bfloat16":  # MindSpore makes none from numpy's arrays if it was built with another numpy
        tensor.set_dtype(ms.bfloat16)
    ms.save_checkpoint([{"name": "w", "data": tensor}], path)

    assert differences(path) == []


@pytest.mark.parametrize(("mode", "size"), ENCRYPTIONS)
def test_encrypted(tmp_path, mode, size):
    """With every mode and length of key the values equal MindSpore's, cold and warm."""
    path = str(tmp_path / "a.ckpt")
    save(path, values(), enc_key=KEYS[size], enc_mode=mode)
    options = {"dec_key": KEYS[size], "dec_mode": mode}

    assert [differences(path, **options), differences(path, **options)] == [[], []]


def test_two_frames(tmp_path):
    """A value over 64 MiB, which MindSpore encrypts in two frames, is read whole."""
    path = str(tmp_path / "a.ckpt")
    save(path, {"big": np.arange(18 * 2**20, dtype=np.float32)}, enc_key=KEYS[16], enc_mode="AES-GCM")

    with lazyckpt.load_checkpoint(path, dec_key=KEYS[16]) as ours:
        assert np.array_equal(ours["big"].asnumpy(), np.arange(18 * 2**20, dtype=np.float32))


def test_slices(tmp_path, monkeypatch):
    """A value that MindSpore wrote in slices is one value."""
    monkeypatch.setattr(serialization, "SLICE_SIZE", 1)  # KiB
    path = str(tmp_path / "a.ckpt")
    save(path, {"a": np.zeros(3, np.float32), "big": np.arange(5000, dtype=np.float32), "b": np.ones(2, np.float32)})

    assert differences(path) == []


def test_crc(tmp_path):
    """A checksum that MindSpore wrote is found, right when the file is whole and wrong when a byte is not."""
    path = tmp_path / "a.ckpt"
    save(str(path), values(), crc_check=True)
    lazyckpt.load_checkpoint(path, crc_check=True).close()
    body = bytearray(path.read_bytes())
    body[60] ^= 1
    broken = tmp_path / "b.ckpt"
    broken.write_bytes(body)

    with pytest.raises(lazyckpt.errors.CorruptFile, match=f"{zlib.crc32(body[:-17]):#x}"):
        lazyckpt.load_checkpoint(broken, crc_check=True)


def test_append_dict(tmp_path):
    """Numbers, flags and strings that were appended come back as MindSpore gives them."""
    path = str(tmp_path / "a.ckpt")
    save(path, values(2), append_dict={"epoch": 3, "lr": 0.01, "on": True, "note": "héllo 模型", "none": ""})

    assert differences(path) == []


def test_a_dtype_equals_mindspores(tmp_path):
    """A parameter's dtype equals MindSpore's type of its name, and no other."""
    types = [kind for kind in vars(ms).values() if type(kind).__module__ == type(ms.float32).__module__]
    path = str(tmp_path / "a.ckpt")
    lazyckpt.save_checkpoint({name: np.zeros(2, name) for name in DTYPES if name != "bfloat16"}, path)
    ckpt = lazyckpt.load_checkpoint(path)

    assert [{str(kind) for kind in types if param.dtype == kind} for param in ckpt.values()] == [
        {str(getattr(ms, name))} for name in ckpt
    ]
    assert all((param.dtype == kind) != (param.dtype != kind) for param in ckpt.values() for kind in types)


@pytest.mark.parametrize("order", [("mindspore", "lazyckpt"), ("lazyckpt", "mindspore")])
def test_either_import_order(order, tmp_path):
    """Both packages, and both descriptions of the protobuf messages, import in either order."""
    path = str(tmp_path / "a.ckpt")
    save(path, values(1))
    lines = [f"import {name}" for name in order]
    lines += [
        "import lazyckpt.formats.proto.checkpoint_pb2",
        f"print(*lazyckpt.load_checkpoint({path!r}, index='memory'))",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["layer.0.w"]


@pytest.mark.parametrize("order", ["mindspore, lazyckpt", "lazyckpt, mindspore"])
def test_a_program_that_ends_with_an_open_checkpoint_is_silent(tmp_path, order):
    """MindSpore keeps modules until Python empties them, before the program's own: nothing is printed all the same."""
    path = str(tmp_path / "a.ckpt")
    save(path, values(2))
    lines = [f"import {order}", f"ckpt = lazyckpt.load_checkpoint({path!r})", "row = ckpt['layer.1.w'][:1]"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)

    assert done.stderr == ""


def test_mindspore_is_not_imported_for_reading(tmp_path):
    """Reading a checkpoint does not import MindSpore even where it is installed."""
    path = str(tmp_path / "a.ckpt")
    save(path, values(1))
    read = f"lazyckpt.load_checkpoint({path!r})['layer.0.w'].asnumpy()"
    code = f"import sys, lazyckpt\n{read}\nprint('mindspore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False"]
