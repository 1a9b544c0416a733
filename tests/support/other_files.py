"""Files of other programs that are not checkpoints, and the advice expected for each."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import tempfile
import zipfile
from pathlib import Path

import lmdb
import numpy as np
from checkpoints import pattern


def zip_archive(*names):
    """A zip archive, as written by torch.save."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, pattern(100))
    return file.getvalue()


def numpy_file():
    """An array file, as written by numpy.save."""
    file = io.BytesIO()
    np.save(file, np.arange(100))
    return file.getvalue()


def safetensors_file():
    """A header and a tensor, as in a safetensors file."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(8)


LFS = b"""version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 12345
"""
# The first bytes of files written by MindSpore 2.10.
MINDIR = b"\n\x031.1\x12\tMindSpore*\x062.10.0:\xa1\x17\n0\x12\x0bValueNode_9\x1a\x0bValueNode_9" + bytes(64)
STRATEGY = (
    b"\x08\x02\x12\x1e\n\x0cGather_table\x12\x0e\x08\x00\x12\x04\x08\x04\x08\x01\x12\x04\x08\x01\x08\x04\x1a6\n\x05table"
    b"\x12-\n\x02\x08\x04\x12\r\x08\x00\x08"
) + b"\xff" * 40
STRATEGY_JSON = b'{"current_stage":2,"parallel_layout_item":{"table":{"dev_mat":[4]}}}'


def lmdb_file():
    """An empty LMDB file."""
    with tempfile.TemporaryDirectory() as folder:
        lmdb.open(f"{folder}/x", subdir=False, lock=False).close()
        return Path(folder, "x").read_bytes()


def tar_archive():
    """A tar archive with one empty file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("net.ckpt"))
    return file.getvalue()


# The name of the kind, the bytes, and a part of the advice.
FILES = [
    ("Git LFS pointer", LFS, "git lfs pull"),
    ("zip archive", zip_archive("archive/data.pkl", "archive/data/0"), "torch.load"),
    ("empty zip archive", zip_archive(), "get the file again"),
    ("HDF5 file", b"\x89HDF\r\n\x1a\n" + pattern(100), "h5py"),
    *(("pickle", pickle.dumps({"w": [1.0] * 50}, protocol), "the library that wrote it") for protocol in (2, 3, 4, 5)),
    ("numpy array file", numpy_file(), "numpy.load"),
    ("MindIR model", MINDIR, "mindspore.load"),
    ("strategy file", STRATEGY, "checkpoints of the ranks"),
    ("strategy file in JSON", STRATEGY_JSON, "checkpoints of the ranks"),
    ("ONNX model", b"\x08\x08\x12\x07pytorch\x1a\x052.3.0" + pattern(100), "onnx"),
    ("LMDB file", lmdb_file(), "the checkpoint beside it"),
    ("xz archive", lzma.compress(pattern(100)), "unpack it"),
    ("bzip2 archive", bz2.compress(pattern(100)), "unpack it"),
    ("tar archive", tar_archive(), "unpack it"),
    ("gzip archive", gzip.compress(pattern(100), mtime=0), "unpack it"),
    ("Zstandard archive", b"\x28\xb5\x2f\xfd" + pattern(100), "unpack it"),
    ("GGUF model", b"GGUF\x03\0\0\0" + pattern(100), "gguf"),
    ("web page", b"<!DOCTYPE html>\n<html><head><title>404</title>", "download the file itself"),
    ("web page", b"<html><body>Sign in</body></html>", "download the file itself"),
    ("safetensors file", safetensors_file(), "format='safetensors'"),
    ("listing", b'{"metadata": {"total_size": 7}, "weight_map": {"w": "a-1.safetensors"}}', "open these"),
    ("text file", b"epoch,loss\n1,0.5\n2,0.25\n", "get the checkpoint itself"),
]
