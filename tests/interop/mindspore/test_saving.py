"""Beside a real MindSpore: it reads all that lazyckpt saves, and both save the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import mindspore as ms
import ml_dtypes
import numpy as np
import pytest
from checkpoints import MIXED, counting
from encryption import CBC_MODES, KEY_SIZES, MODES, key_of
from mindspore import nn
from mindspore.common.initializer import initializer
from mindspore.experimental import MapParameter
from mindspore.train import serialization
from mindspore_cells import cell_of, parameter

import lazyckpt
from lazyckpt.errors import ArgumentTypeError
from lazyckpt.writing import ckpt, sink

PARSERS = ("python", "upb")
# MindSpore's own bfloat16 arrays, which it makes for safetensors, need the major version of numpy it was built with.
HAS_BFLOAT16 = np.__version__.startswith("1.")
NO_MAP = {name: value for name, value in MIXED.items() if not isinstance(value, list)}
TENSORS = {name: np.asarray(value) for name, value in NO_MAP.items() if not isinstance(value, str)}
EVERY_DTYPE = {
    name: np.arange(-3, 3).astype(name).reshape(2, 3)
    for name in ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
} | {name: np.linspace(-3, 3, 6).astype(name).reshape(2, 3) for name in ("float16", "float32", "float64")}
BRAIN = {"brain": (counting((2, 3)) / 7).astype(ml_dtypes.bfloat16)}
LOOKS_LIKE_A_CHECKSUM = {"a": counting((3,)), "z": np.frombuffer(b"crc_num" + bytes(10), "uint8")}
EMPTY = {"no rows": np.zeros((0, 3), "float32"), "no columns": np.zeros((3, 0), "int8"), "one": counting((1,))}
NAMES = {"": counting((1,)), " white ": counting((2,)), "模型.权重": counting((2, 2)), "n" * 1000: counting((3,))}
# Made as (what, how lazyckpt saves it, how MindSpore loads it).
FILES = {
    "plain": (MIXED, {"align": 1}, {}),
    "aligned": (MIXED, {}, {}),
    "aligned to pages": (MIXED, {"align": 4096}, {}),
    "every dtype": ({**EVERY_DTYPE, **BRAIN}, {}, {}),
    "summed": (NO_MAP, {"crc_check": True, "align": 1}, {"crc_check": True}),
    "aligned and summed": (NO_MAP, {"crc_check": True}, {"crc_check": True}),
    "sliced": ({"a": counting((3,)), "big": counting((50, 99)), "z": counting((3,))}, {}, {}),
    "like a checksum": (LOOKS_LIKE_A_CHECKSUM, {}, {}),
    "like a checksum, encrypted": (LOOKS_LIKE_A_CHECKSUM, {"enc_key": key_of(16)}, {"dec_key": key_of(16)}),
    "empty": (EMPTY, {}, {}),
    "names": (NAMES, {}, {}),
    **{
        f"{mode} {size}": (
            NO_MAP,
            {"enc_key": key_of(size), "enc_mode": mode},
            {"dec_key": key_of(size), "dec_mode": mode},
        )
        for mode in MODES
        for size in KEY_SIZES[mode]
    },
    **{
        f"{mode} in blocks": (
            NO_MAP,
            {"enc_key": key_of(16), "enc_mode": mode},
            {"dec_key": key_of(16), "dec_mode": mode},
        )
        for mode in MODES
    },
    "safetensors": ({**TENSORS, **EVERY_DTYPE}, {"format": "safetensors"}, {"format": "safetensors"}),
    "safetensors, summed": (
        TENSORS,
        {"format": "safetensors", "crc_check": True},
        {"format": "safetensors", "crc_check": True},
    ),
    **(
        {"safetensors of bfloat16": (BRAIN, {"format": "safetensors"}, {"format": "safetensors"})}
        if HAS_BFLOAT16
        else {}
    ),
    "safetensors without redundancy": (
        TENSORS,
        {"format": "safetensors", "remove_redundancy": True},
        {"format": "safetensors"},
    ),
    "safetensors, empty": (EMPTY, {"format": "safetensors", "align": 1}, {"format": "safetensors"}),
}
BLOCK, SLICE = 1000, 4000

READ_ALL = """
import hashlib, json, sys
import numpy as np
import mindspore as ms
from google.protobuf.internal import api_implementation

def description(value):
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return [[array.dtype.name, list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()] for array in value]
    data = bytes(value.get_bytes()) if value.size else b""
    return [str(value.dtype), list(value.shape), hashlib.sha256(data).hexdigest()]

found = {}
for kind, (path, options) in json.load(sys.stdin).items():
    options = {name: bytes.fromhex(value) if name == "dec_key" else value for name, value in options.items()}
    try:
        found[kind] = {name: description(value) for name, value in ms.load_checkpoint(path, **options).items()}
    except Exception as error:
        found[kind] = repr(error)
print("RESULT" + json.dumps([api_implementation.Type(), found]))
"""


def description(value):
    """The description of a saved value: a string, or dtype, shape and digest."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return [[one.dtype.name, list(one.shape), hashlib.sha256(one.tobytes()).hexdigest()] for one in value]
    array = np.asarray(value)
    shape = [] if array.shape == (0,) else list(array.shape)  # an empty vector is a scalar to MindSpore
    name = {"bfloat16": "BFloat16", "bool": "Bool"}.get(array.dtype.name, array.dtype.name.capitalize())
    return [name.replace("Uint", "UInt"), shape, hashlib.sha256(array.tobytes()).hexdigest()]


@pytest.fixture(scope="module")
def read_by_mindspore(tmp_path_factory):
    """All files that lazyckpt saved, as MindSpore reads them with each of protobuf's parsers: by parser and kind."""
    folder = tmp_path_factory.mktemp("saved")
    wanted = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ckpt, "SLICE", SLICE)
        for kind, (values, how, options) in FILES.items():
            patched.setattr(sink, "FRAME_PLAINTEXT", BLOCK if "blocks" in kind else 64 * 2**20)
            path = folder / f"{kind}.{how.get('format', 'ckpt')}"
            lazyckpt.save_checkpoint(dict(values), path, **how)
            texts = {name: value.hex() if name == "dec_key" else value for name, value in options.items()}
            wanted[kind] = (str(path), texts)
    found = {}
    for parser in PARSERS:
        done = subprocess.run(
            [sys.executable, "-c", READ_ALL],
            input=json.dumps(wanted),
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": parser},
            check=False,
        )
        _, _, answer = done.stdout.partition("RESULT")
        assert answer, done.stderr[-2000:]
        used, found[parser] = json.loads(answer)
        assert used == parser
    return found


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("kind", FILES)
def test_mindspore_reads_what_is_saved(kind, parser, read_by_mindspore):
    """Every name, dtype, shape and bit; with protobuf's parser in Python, which is MindSpore's choice, and in C."""
    values = FILES[kind][0]
    order = sorted(values) if "safetensors" in kind else values

    assert read_by_mindspore[parser][kind] == {name: description(values[name]) for name in order}
    assert list(read_by_mindspore[parser][kind]) == list(order)


# Byte by byte


class LeNet5(nn.Cell):
    """The LeNet of MindSpore's tutorials."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, pad_mode="valid")
        self.conv2 = nn.Conv2d(6, 16, 5, pad_mode="valid")
        self.fc1 = nn.Dense(16 * 5 * 5, 120)
        self.fc2 = nn.Dense(120, 84)
        self.fc3 = nn.Dense(84, 10)


def tensors():
    """MindSpore's Tensors of every dtype that its loader reads."""
    made = {name: ms.Tensor(array) for name, array in EVERY_DTYPE.items()}
    made["brain"] = ms.Tensor(counting((2, 3)) / 7, ms.float32).astype(ms.bfloat16)
    made["nibbles"] = ms.Tensor(np.arange(6, dtype=np.int8).reshape(2, 3), ms.qint4x2)
    made["scalar"] = ms.Tensor(0.5, ms.float32)
    return made


def every_parameter():
    """Parameters of every dtype, a scalar and one that is not initialised yet."""
    shapes = {name: ((2, 3), name) for name in ("Bool", "Int4", "Int8", "UInt64", "Float16", "Float64", "BFloat16")}
    made = [parameter(name, *described) for name, described in {**shapes, "scalar": ((), "Int32")}.items()]
    return [*made, ms.Parameter(initializer("ones", (3, 4), ms.float16), name="later")]


def cached():
    """A net that keeps one of its parameters in a cache, under a key."""
    cell = cell_of({"emb": ((3, 2), "Float32"), "w": ((2,), "Float32")})
    (one, _) = (found for _, found in cell.parameters_and_names())
    one.cache_enable, one.key = True, 3
    return cell


SAVED = {
    "a net": LeNet5,
    "a net of halves": lambda: LeNet5().to_float(ms.float16),
    "a net with a cache": cached,
    "a net with an optimiser": lambda: nn.Adam(LeNet5().trainable_params()),
    "a list of dicts": lambda: [{"name": name, "data": data} for name, data in tensors().items()],
    "a list of Parameters": every_parameter,
    "a dict of Parameters": lambda: {one.name: one for one in every_parameter()},
    "a dict with strings": lambda: {"s": "späte 模型", "w": parameter("w", (3,), "Float32"), "e": ""},
}
APPENDED = {
    "nothing": lambda: None,
    "numbers": lambda: {"epoch": 3, "lr": 0.1, "on": True, "off": False, "big": 2**62, "inf": 1e300},
    "texts": lambda: {"note": "späte 模型", "none": "", "nul": "a\0b"},
    "tensors": lambda: {"t": ms.Tensor([1, 2], ms.int16), "p": parameter("other name", (2, 2), "Float16")},
    "a generator": lambda: {"seed": ms.Generator()},
}


def both(folder, save_obj, ours=None, **options):
    """The bytes that MindSpore and lazyckpt save of the same."""
    ending = options.get("format", "ckpt")
    theirs = folder / f"theirs.{ending}"
    mine = folder / f"mine.{ending}"
    ms.save_checkpoint(save_obj, str(theirs), **options)
    lazyckpt.save_checkpoint(save_obj, str(mine), align=1, **options, **(ours or {}))
    return theirs.read_bytes(), mine.read_bytes()


@pytest.mark.parametrize("crc", [False, True], ids=["plain", "summed"])
@pytest.mark.parametrize("what", SAVED)
def test_what_is_saved_is_mindspores(what, crc, tmp_path):
    """The bytes are equal, for any form of the values."""
    theirs, mine = both(tmp_path, SAVED[what](), crc_check=crc)

    assert mine == theirs
    assert len(theirs) > 30


@pytest.mark.parametrize("more", APPENDED)
def test_what_is_appended_is_mindspores(more, tmp_path):
    """Numbers, flags, texts, tensors and generators of random numbers."""
    theirs, mine = both(tmp_path, cell_of({"w": ((2,), "Float32")}), append_dict=APPENDED[more]())

    assert mine == theirs


def test_what_is_chosen_is_mindspores(tmp_path):
    """`choice_func` chooses the same."""
    theirs, mine = both(tmp_path, LeNet5(), choice_func=lambda name: "fc" in name)

    assert mine == theirs


@pytest.mark.parametrize("kilobytes", [1, 2, 7])
def test_slices_are_mindspores(kilobytes, tmp_path, monkeypatch):
    """Large tensors are cut where MindSpore cuts them."""
    monkeypatch.setattr(serialization, "SLICE_SIZE", kilobytes)
    monkeypatch.setattr(ckpt, "SLICE", kilobytes * 1024)
    theirs, mine = both(tmp_path, LeNet5())

    assert mine == theirs
    assert mine.count(b"fc1.weight") > 5


@pytest.mark.parametrize("mode", ["AES-GCM", *CBC_MODES])
def test_each_decrypts_what_the_other_encrypted(mode, tmp_path, monkeypatch):
    """Encrypted files have several blocks of the same size, plaintext and borders."""
    monkeypatch.setattr(serialization, "ENCRYPT_BLOCK_SIZE", 1)
    monkeypatch.setattr(sink, "FRAME_PLAINTEXT", 1024)
    net = cell_of({f"layer.{number}": ((50, 7), "Float32") for number in range(5)})
    theirs, mine = both(tmp_path, net, enc_key=key_of(16), enc_mode=mode)
    options = {"dec_key": key_of(16), "dec_mode": mode}
    found = []
    for load in (ms.load_checkpoint, lazyckpt.load_checkpoint):
        for name in ("theirs", "mine"):
            loaded = load(str(tmp_path / f"{name}.ckpt"), **options)
            found.append({key: (str(value.dtype), value.asnumpy().tobytes()) for key, value in loaded.items()})

    assert len(theirs) == len(mine)
    assert found[0] == found[1] == found[2] == found[3]
    assert len(found[0]) == 5


@pytest.mark.parametrize("what", [name for name in SAVED if "strings" not in name])
def test_safetensors_files_are_mindspores(what, tmp_path):
    """The bytes are equal, except for the order of some metadata."""

    def choice(name):
        return HAS_BFLOAT16 or name not in ("brain", "BFloat16")

    theirs, mine = both(tmp_path, SAVED[what](), format="safetensors", choice_func=choice)
    headers = [json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]) for data in (theirs, mine)]

    assert mine == theirs or len(headers[0]["__metadata__"]) > 1
    assert list(headers[0].items()) == list(headers[1].items())
    assert len(mine) == len(theirs)


@pytest.mark.parametrize("options", [{"crc_check": True}, {"remove_redundancy": True}, {"remove_redundancy": False}])
def test_safetensors_options_are_mindspores(options, tmp_path):
    """Checksum, flag and contents are the same."""
    theirs, mine = both(tmp_path, LeNet5(), format="safetensors", **options)
    begin = 8 + int.from_bytes(mine[:8], "little")

    assert json.loads(mine[8:begin]) == json.loads(theirs[8:begin])
    assert mine[begin:] == theirs[begin:]


@pytest.mark.parametrize("number", [0, 17, 2**20])
def test_checksums_of_single_integers_are_mindspores(number, tmp_path):
    """MindSpore does not sum their bytes; each accepts the other's file."""
    net = cell_of({"w": ((2,), "Float32")})
    theirs, mine = both(tmp_path, net, format="safetensors", crc_check=True, append_dict={"epoch": number})
    for name in ("theirs", "mine"):
        path = str(tmp_path / f"{name}.safetensors")
        assert int(ms.load_checkpoint(path, format="safetensors", crc_check=True)["epoch"]) == number
        with lazyckpt.load_checkpoint(path, format="safetensors", crc_check=True) as ours:
            assert ours["epoch"].item() == number

    assert len(mine) == len(theirs)


def exporting(monkeypatch, slices):
    """Lets a map export these slices: MindSpore 2.10 keeps maps on devices other than the CPU only."""

    def export(self, incremental=False):
        *arrays, last = left.pop(0) if left else start()
        return (*arrays, last)

    left = []

    def start():
        left.extend((*arrays, number == len(slices) - 1) for number, arrays in enumerate(slices))
        return left.pop(0)

    monkeypatch.setattr(MapParameter, "export_slice_data", export)


@pytest.mark.parametrize("count", [1, 3])
def test_maps_are_mindspores(count, tmp_path, monkeypatch):
    """Maps in one piece and in slices are read back by both."""
    slices = [
        (counting((2,), "int32") + 10 * number, counting((2, 3)) * number, np.ones(2, "int32"))
        for number in range(count)
    ]
    exporting(monkeypatch, slices)
    table = MapParameter(key_dtype=ms.int32, value_dtype=ms.float32, value_shape=(3,), name="table")
    values = {"a": parameter("a", (2,), "Float32"), "table": table}
    theirs, mine = both(tmp_path, values)
    read = [load(str(tmp_path / "mine.ckpt"))["table"] for load in (ms.load_checkpoint, lazyckpt.load_checkpoint)]

    assert mine == theirs
    assert [[array.tobytes() for array in one] for one in read] == [
        [np.concatenate(column).tobytes() for column in zip(*slices, strict=True)]
    ] * 2


def test_an_empty_tensor_is_not_lost(tmp_path):
    """MindSpore leaves it out of a file that it saves, and reads it from one of ours."""
    theirs, mine = both(tmp_path, [{"name": "w", "data": ms.Tensor(np.zeros((0, 3), np.float32))}])

    assert theirs == b""
    assert tuple(ms.load_checkpoint(str(tmp_path / "mine.ckpt"))["w"].shape) == (0, 3)
    assert len(mine) > 0


def test_a_net_goes_on_training_while_it_is_saved(tmp_path):
    """A background save writes the values at the time of the call."""
    net = LeNet5()
    expected = {one.name: bytes(one.get_bytes()) for one in net.get_parameters()}
    future = lazyckpt.save_checkpoint(net, tmp_path / "net.ckpt", async_save=True)
    for one in net.get_parameters():
        one.set_data(ms.Tensor(np.zeros(one.shape, np.float32)))
    future.result(60)
    with lazyckpt.load_checkpoint(tmp_path / "net.ckpt") as ours:
        assert {name: value.tobytes() for name, value in ours.items()} == expected


def test_what_lazyckpt_saved_is_loaded_into_a_net(tmp_path):
    """MindSpore and lazyckpt both restore the net."""
    net = LeNet5()
    lazyckpt.save_checkpoint(net, tmp_path / "net.ckpt")
    others = [LeNet5(), LeNet5()]
    results = [
        ms.load_param_into_net(others[0], ms.load_checkpoint(str(tmp_path / "net.ckpt"))),
        lazyckpt.load_param_into_net(others[1], lazyckpt.load_checkpoint(tmp_path / "net.ckpt")),
    ]

    assert results == [([], [])] * 2
    for other in others:
        assert [bytes(one.get_bytes()) for one in other.get_parameters()] == [
            bytes(one.get_bytes()) for one in net.get_parameters()
        ]


def test_a_checkpoint_that_mindspore_saved_is_saved_again(tmp_path):
    """Read lazily and written: MindSpore's own bytes."""
    ms.save_checkpoint(LeNet5(), str(tmp_path / "theirs.ckpt"), append_dict={"epoch": 3, "note": "späte"})
    with lazyckpt.load_checkpoint(tmp_path / "theirs.ckpt") as ckpt_of_theirs:
        lazyckpt.save_checkpoint(ckpt_of_theirs, tmp_path / "mine.ckpt", align=1)

    assert (tmp_path / "mine.ckpt").read_bytes() == (tmp_path / "theirs.ckpt").read_bytes()


def test_a_tensor_of_a_dtype_that_no_file_holds_is_reported(tmp_path):
    """The error has the tensor's name and the possible dtypes."""
    with pytest.raises(ArgumentTypeError, match="'w' cannot be saved: its dtype Complex128"):
        lazyckpt.save_checkpoint({"w": ms.Tensor(np.zeros(2, "complex128"))}, tmp_path / "net.ckpt")
