"""Beside a real torch: modules are filled by MindSpore's rules, and values become private tensors.

Run where torch is installed: `python -m pytest tests/interop/torch`.
"""

from __future__ import annotations

import ast
import itertools
import os
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.torch
import torch
from checkpoints import LAYERS, MIXED, checkpoint, counting, map_value, string_value, tensor_value
from encryption import KEY, encrypted, flipped
from hypothesis import given, settings
from mindspore_binding import DTYPES, FLOATS, SIGNED, TABLE, TEXT, Refused, bind, nets_and_checkpoints
from opening import opened_and_traced, opened_over
from torch import nn
from tracing import TracingSource, places

import lazyckpt
from lazyckpt.errors import ArgumentTypeError, ArgumentValueError, DamagedBlock, NetMismatch
from lazyckpt.formats.ckpt import header_extents
from lazyckpt.frameworks.torch import NAMES, load_into
from lazyckpt.model.dtypes import DTYPES as TABLE_OF_DTYPES
from lazyckpt.parameter import Parameter
from lazyckpt.sources import BytesSource

TORCH = {name: dtype for dtype, name in NAMES.items()}
TYPES = [name for name in DTYPES if name in TORCH]


def module_of(net):
    """A module with buffers of ones: name -> (shape, dtype). A name's dots are kept."""
    module = nn.Module()
    for name, (shape, dtype) in net.items():
        module._buffers[name] = torch.ones(shape, dtype=TORCH[dtype])
    return module


def state(module):
    """The state of a module: name -> (shape, dtype, bytes)."""
    return {
        name: (tuple(tensor.shape), NAMES[tensor.dtype], bits(tensor)) for name, tensor in module.state_dict().items()
    }


def bits(tensor):
    """A tensor's bytes."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def file_of(values):
    """The bytes of a checkpoint given as name -> (shape, dtype), `TEXT` or `TABLE`."""
    parts = []
    for name, value in values.items():
        if value is TEXT:
            parts.append(string_value(name, "text"))
        elif value is TABLE:
            parts.append(map_value(name, [counting((2,), "int32"), counting((2, 2)), counting((2,), "int32")]))
        else:
            shape, dtype = value
            parts.append(tensor_value(name, shape, dtype, numbers(shape, dtype).tobytes()))
    return b"".join(parts)


def numbers(shape, dtype):
    """An array of numbers that every dtype can hold, different from those of `module_of`."""
    return (counting(shape, "int8") % 7 + 2).astype(TABLE_OF_DTYPES[dtype].numpy)


class Small(nn.Module):
    """One layer of each normalisation, at several depths."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.block = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.GroupNorm(2, 6))
        self.instance = nn.InstanceNorm1d(3, affine=True, track_running_stats=True)


IN_MINDSPORE = {
    "bn.weight": "bn.gamma",
    "bn.bias": "bn.beta",
    "bn.running_mean": "bn.moving_mean",
    "bn.running_var": "bn.moving_variance",
    "block.1.weight": "block.1.gamma",
    "block.1.bias": "block.1.beta",
    "block.2.weight": "block.2.gamma",
    "block.2.bias": "block.2.beta",
    "instance.weight": "instance.gamma",
    "instance.bias": "instance.beta",
    "instance.running_mean": "instance.moving_mean",
    "instance.running_var": "instance.moving_variance",
}


def test_a_module_of_a_thousand_tensors_equals_what_torch_loads(tmp_path):
    """A module filled from a checkpoint equals, bit for bit, one filled by torch.load and load_state_dict."""
    torch.manual_seed(3)
    parts = [nn.Sequential(nn.Linear(3, 5), nn.Conv1d(2, 3, 4)) for _ in range(250)]
    saved = nn.ModuleList(parts)
    torch.save(saved.state_dict(), tmp_path / "a.pt")
    values = {name: tensor.numpy() for name, tensor in saved.state_dict().items()}
    (tmp_path / "a.ckpt").write_bytes(checkpoint(values))
    one, other = (nn.ModuleList([nn.Sequential(nn.Linear(3, 5), nn.Conv1d(2, 3, 4)) for _ in parts]) for _ in range(2))
    one.load_state_dict(torch.load(tmp_path / "a.pt"))
    with lazyckpt.load_checkpoint(str(tmp_path / "a.ckpt")) as ckpt:
        result = load_into(other, ckpt)

    assert len(values) == 1000
    assert result == ([], [])
    assert state(other) == state(one) == state(saved)


@settings(max_examples=300)
@given(nets_and_checkpoints(TYPES))
def test_any_module_and_checkpoint(case):
    """Lists and values equal those of MindSpore's algorithm; a refusal leaves the module untouched."""
    net, values, strict = case
    module = module_of(net)
    before = state(module)
    ckpt = opened_over(BytesSource(file_of(values)))
    try:
        loads, missing, unused = bind(net, values, strict, wanted=True)
    except Refused:
        with pytest.raises(NetMismatch, match="left as it was"):
            load_into(module, ckpt, strict_load=strict)
        assert state(module) == before
        return

    assert load_into(module, ckpt, strict_load=strict) == (missing, unused)
    after = state(module)
    assert {name: value[:2] for name, value in after.items()} == net
    assert {name: after[name][2] for name in net if name not in loads} == {
        name: before[name][2] for name in net if name not in loads
    }
    assert {name: after[name][2] for name in loads} == {
        name: numbers(values[source][0], net[name][1]).tobytes() for name, source in loads.items()
    }


@pytest.mark.parametrize("family", [FLOATS, SIGNED])
def test_conversions_are_numpys(family):
    """Conversions equal numpy's: overflow to infinity, rounding to even, wrapping."""
    with np.errstate(all="ignore"):
        for mine, theirs in itertools.permutations([name for name in family if name in TORCH], 2):
            array = np.array([0, 1, -2, 300, -301, 65519, 65520, 1e-3, 1.00390625, 1e30 if family is FLOATS else 1e9])
            array = array.astype("int64" if family is SIGNED else "float64").astype(TABLE_OF_DTYPES[theirs].numpy)
            module = module_of({"w": (array.shape, mine)})
            load_into(module, {"w": array})

            assert state(module)["w"][2] == array.astype(TABLE_OF_DTYPES[mine].numpy).tobytes()


def test_int4_goes_into_int8():
    """MindSpore's Int4, one value a byte, is converted to torch's integers."""
    module = module_of({"a": ((4,), "Int8"), "b": ((4,), "Int32")})
    data = bytes([0, 1, 7, 255])
    load_into(
        module, opened_over(BytesSource(tensor_value("a", [4], "Int4", data) + tensor_value("b", [4], "Int4", data)))
    )

    assert [buffer.tolist() for buffer in module.buffers()] == [[0, 1, 7, -1]] * 2


def test_norm_layers_have_other_names():
    """With `norm_names` gamma, beta and the moving statistics are found in any layer."""
    values = {IN_MINDSPORE.get(name, name): tensor for name, tensor in Small().state_dict().items()}
    values = {name: (t.numpy() + 3).astype(t.numpy().dtype) for name, t in values.items() if "num_batches" not in name}
    module = Small()

    assert load_into(module, values, norm_names=True) == ([], [])
    found = {name: tensor.numpy() for name, tensor in module.state_dict().items() if "num_batches" not in name}
    assert {IN_MINDSPORE.get(name, name): array.tobytes() for name, array in found.items()} == {
        name: array.tobytes() for name, array in values.items()
    }


def test_a_norm_layer_may_be_the_whole_module():
    """A module that is itself a normalisation has names without dots."""
    module = nn.LayerNorm(3)
    result = load_into(module, {"gamma": counting((3,)), "beta": counting((3,))}, norm_names=True)

    assert result == ([], [])
    assert module.weight.tolist() == module.bias.tolist() == [0, 1, 2]


def test_only_norm_layers_have_other_names():
    """Without `norm_names`, and for other layers with it, names are torch's."""
    values = {name: tensor.numpy() for name, tensor in Small().state_dict().items()}

    assert load_into(Small(), values) == ([], [])
    missing, unused = load_into(Small(), values, norm_names=True)
    assert sorted(missing) == sorted(IN_MINDSPORE.values())
    assert sorted(unused) == sorted(IN_MINDSPORE)


def test_num_batches_tracked_may_be_missing():
    """MindSpore has no such counter: it is not reported as missing, and is loaded if present."""
    module = nn.BatchNorm1d(2)
    values = {name: np.ones(2, np.float32) for name in ("weight", "bias", "running_mean", "running_var")}

    assert load_into(module, values) == ([], [])
    assert module.num_batches_tracked.item() == 0
    load_into(module, values | {"num_batches_tracked": np.array(7)})
    assert module.num_batches_tracked.item() == 7


def test_bfloat16():
    """bfloat16 is copied into bfloat16, and converted to other floats."""
    brain = (counting((2, 3)) / 7).astype(ml_dtypes.bfloat16)
    module = module_of(
        {name: ((2, 3), dtype) for name, dtype in (("a", "BFloat16"), ("b", "Float32"), ("c", "Float16"))}
    )
    load_into(module, dict.fromkeys("abc", brain))

    assert {name: found[2] for name, found in state(module).items()} == {
        "a": brain.tobytes(),
        "b": brain.astype("float32").tobytes(),
        "c": brain.astype("float16").tobytes(),
    }


def test_complex_parameters_take_nothing():
    """A dtype that MindSpore's files lack is refused by its name."""
    module = nn.Module()
    module.register_buffer("w", torch.zeros(2, dtype=torch.complex64))

    with pytest.raises(NetMismatch, match=r"torch\.complex64 in the net, Float32"):
        load_into(module, {"w": counting((2,))})


@pytest.mark.parametrize("broken", ["a", "c", "e"])
def test_a_module_that_cannot_be_bound_is_left_untouched(broken):
    """Whichever parameter does not fit, nothing has changed, and no byte of a value was read."""
    net = dict.fromkeys("abcde", ((3,), "Float32"))
    module = module_of(net)
    before = state(module)
    source = TracingSource(file_of(net | {broken: ((4,), "Float32")}))
    with pytest.raises(NetMismatch, match=f"{broken}: it should have the same shape"):
        load_into(module, opened_and_traced(source))

    assert state(module) == before
    assert source.reads == []


def test_a_value_that_proves_damaged_ends_the_filling(tmp_path):
    """Values before the damage are filled in; those of its block and after it are not."""
    net = dict.fromkeys("abcde", ((3000,), "Float32"))
    module = module_of(net)
    before = state(module)
    path = tmp_path / "net.ckpt"
    sound = encrypted(file_of(net), block=5000)
    path.write_bytes(sound)
    lazyckpt.build_index(path, KEY).close()
    time = path.stat().st_mtime_ns
    path.write_bytes(flipped(sound, len(sound) // 2))
    os.utime(path, ns=(time, time))
    with lazyckpt.load_checkpoint(str(path), dec_key=KEY) as ckpt, pytest.raises(DamagedBlock):
        load_into(module, ckpt)

    assert [name for name, value in state(module).items() if value != before[name]] == ["a", "b"]


def test_only_what_is_used_is_read_and_in_file_order():
    """Only the module's values are read, front to back, each once."""
    module = module_of(dict.fromkeys("abcde", ((3,), "Float32")))
    source = TracingSource(file_of(dict.fromkeys(["e", "unused", "d", "c", "b", "a"], ((3,), "Float32"))))
    ckpt = opened_and_traced(source)
    load_into(module, ckpt)
    used = [ckpt.entry(name) for name in "edcba"]
    contents = [extent for entry in used for extent in entry.extents]

    assert [read for read in source.reads if read in contents] == contents
    assert source.looked_at() == places([*contents, *(extent for entry in used for extent in header_extents(entry))])


def test_matching_reads_nothing():
    """`match` reports the result for a module without reading a value."""
    source = TracingSource(file_of({"a": ((2,), "Float16"), "b": ((3,), "Float32"), "s": TEXT}))
    module = module_of(dict.fromkeys("abc", ((2,), "Float32")))
    report = lazyckpt.match(module, opened_and_traced(source))

    assert [(row.name, row.outcome) for row in report.rows] == [
        *[("a", "casts"), ("b", "refused"), ("c", "missing"), ("s", "unused")]
    ]
    assert source.reads == []


def test_encrypted_checkpoints_fill_modules(tmp_path):
    """The file is decrypted block by block, never as a whole."""
    net = {"a": ((3,), "Float32"), "b": ((40, 50), "Float16")}
    (tmp_path / "a.ckpt").write_bytes(encrypted(file_of(net), block=1000))
    module = module_of(net)
    with lazyckpt.load_checkpoint(str(tmp_path / "a.ckpt"), dec_key=KEY) as ckpt:
        load_into(module, ckpt)

    assert {name: found[2] for name, found in state(module).items()} == {
        name: numbers(*value).tobytes() for name, value in net.items()
    }


ARRAYS = {
    "backwards": counting((6,))[::-1],
    "a column": counting((6, 2))[:, 1],
    "in Fortran's order": np.asfortranarray(counting((6, 1))),
    "read-only": np.frombuffer(counting((6,)).tobytes(), np.float32),
    "unaligned": np.frombuffer(b"\0" + counting((6,)).tobytes(), np.float32, offset=1),
    "big-endian": counting((6,)).astype(">f4"),
    "of a subclass": np.ma.masked_array(counting((6,))),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_arrays_of_any_make(array):
    """A dict's arrays may be views of any kind, of any byte order, and read-only; they are not changed."""
    before = array.tobytes()
    module = module_of({"w": (array.shape, "Float32")})
    load_into(module, {"w": array})

    assert next(module.buffers()).numpy().tolist() == array.tolist()
    assert array.tobytes() == before


def test_the_modules_own_tensors_are_filled():
    """Parameters stay the same objects, keep `requires_grad`, and tied ones stay tied."""
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    module[1].weight = module[0].weight
    weight = module[0].weight
    values = {"0.weight": counting((2, 2)), "1.weight": counting((2, 2))}
    load_into(module, values)
    with torch.no_grad():
        weight += 1

    assert module[0].weight is module[1].weight is weight
    assert (weight.requires_grad, weight.grad_fn) == (True, None)
    assert weight.tolist() == [[1, 2], [3, 4]]
    assert values["0.weight"].tolist() == [[0, 1], [2, 3]]


def test_what_needs_no_conversion_is_read_straight_into_the_module(monkeypatch):
    """A plain file's value needs no array; a converted one needs one."""
    module = nn.Linear(2, 3)
    asked, asnumpy = [], Parameter.asnumpy
    monkeypatch.setattr(Parameter, "asnumpy", lambda self, **how: asked.append(self.name) or asnumpy(self, **how))
    content = file_of({"weight": ((3, 2), "Float32"), "bias": ((3,), "Float16")})
    load_into(module, opened_over(BytesSource(content)))

    assert asked == ["bias"]
    assert bits(module.weight) == numbers((3, 2), "Float32").tobytes()


@pytest.mark.parametrize("dtype", ["Float32", "Float16"])
def test_a_backward_pass_refuses_what_was_filled_since_the_forward_pass(dtype):
    """Values read into the module directly and converted ones both raise, instead of giving wrong gradients."""
    module = nn.Linear(2, 2, bias=False)
    result = module(torch.ones(1, 2, requires_grad=True)).sum()
    load_into(module, opened_over(BytesSource(file_of({"weight": ((2, 2), dtype)}))))

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.backward()


def test_tensors_that_are_views_are_filled():
    """A parameter may be transposed, or a part of another tensor."""
    whole = torch.zeros(3, 4)
    module = nn.Module()
    module.register_buffer("w", whole.t()[1:3])
    load_into(module, {"w": counting((2, 3))})

    assert whole.tolist() == [[0, 0, 3, 0], [0, 1, 4, 0], [0, 2, 5, 0]]


def test_extra_state_is_left_alone():
    """Extra state of a module is not filled from a checkpoint."""

    class Counting(nn.Linear):
        def get_extra_state(self):
            return {"steps": 5}

    module = Counting(2, 2)

    assert load_into(module, {"weight": counting((2, 2)), "bias": counting((2,))}) == ([], [])


def test_a_module_without_memory_is_refused():
    """A module on the meta device has no memory to fill; the message says how to allocate it."""
    with pytest.raises(ArgumentValueError, match="to_empty"):
        load_into(nn.Linear(2, 2, device="meta"), {"weight": counting((2, 2))})


@pytest.mark.parametrize(
    ("module", "values"),
    [
        (5, {}),
        (nn.Module, {}),
        (nn.Linear(1, 1), []),
        (nn.Linear(1, 1), {"weight": torch.zeros(1, 1)}),
        (nn.Linear(1, 1), {"weight": 1}),
        (nn.Linear(1, 1), {1: counting((1, 1))}),
        (nn.Linear(1, 1), {"weight": np.zeros((1, 1), "complex128")}),
    ],
)
def test_wrong_arguments(module, values):
    """No module, no mapping, and values of other types are TypeErrors."""
    with pytest.raises(ArgumentTypeError):
        load_into(module, values)


def test_strings_and_maps_are_passed_over():
    """Strings and maps are neither loaded nor missing, as with MindSpore."""
    module = module_of(dict.fromkeys("abc", ((2,), "Float32")))
    before = state(module)

    assert load_into(module, opened_over(BytesSource(file_of({"a": TEXT, "b": TABLE})))) == (["c"], ["a", "b"])
    assert state(module) == before


def test_tensors(tmp_path):
    """`to_torch` gives a tensor of the value's shape, dtype and bytes, for every dtype that torch has."""
    shapes = [(), (1,), (2, 3), (0, 3)]
    values = {f"{name} {shape}": (shape, name) for name in TYPES for shape in shapes}
    ckpt = opened_over(BytesSource(file_of(values)))
    made = {name: param.to_torch() for name, param in ckpt.items()}

    assert {name: (tuple(one.shape), one.dtype) for name, one in made.items()} == {
        name: (shape, TORCH[dtype]) for name, (shape, dtype) in values.items()
    }
    assert {name: bits(one) for name, one in made.items()} == {
        name: numbers(*value).tobytes() for name, value in values.items()
    }


def test_a_dtype_equals_the_type_of_its_tensors():
    """A dtype equals the dtype of the tensor that `to_torch` gives, and no other, on either side."""
    ckpt = opened_over(BytesSource(file_of({name: ((2,), name) for name in TYPES})))
    others = [one for one in vars(torch).values() if isinstance(one, torch.dtype)]

    assert [{one for one in others if param.dtype == one} for param in ckpt.values()] == [
        {param.to_torch().dtype} for param in ckpt.values()
    ]
    assert all((param.dtype == one) == (one == param.dtype) for param in ckpt.values() for one in others)


@pytest.mark.parametrize("dtype", [name for name in TYPES if name != "BFloat16"])
def test_dlpack(dtype):
    """`torch.from_dlpack` takes a parameter; writing to the tensor changes nobody else's."""
    param = opened_over(BytesSource(file_of({"w": ((2, 3), dtype)})))["w"]
    tensor = torch.from_dlpack(param)
    tensor[0, 0] = 1

    assert (tuple(tensor.shape), tensor.dtype) == ((2, 3), TORCH[dtype])
    assert np.array_equal(param.asnumpy(), numbers((2, 3), dtype))


def test_bfloat16_has_no_dlpack():
    """numpy exports no bfloat16: the error says so, and `to_torch` converts it."""
    param = opened_over(BytesSource(file_of({"w": ((2, 3), "BFloat16")})))["w"]

    with pytest.raises(BufferError, match="DLPack only supports"):
        torch.from_dlpack(param)
    assert param.to_torch().dtype == torch.bfloat16


WRITES = {
    "an element": "p[0] = 7",
    "in place": "p.add_(1)",
    "through numpy": "p.numpy()[...] = 7",
    "an optimiser": "q = p.requires_grad_(); (q * q).sum().backward(); torch.optim.SGD([q], 0.5).step()",
    "through DLPack": "p = [torch.from_dlpack(value) for value in c.values()][-1]; p[0] = 7",
    "through DLPack, any of them": "for value in c.values(): p = torch.from_dlpack(value); p += 1",
    "an edited parameter": "e = c['w']; e.set_data(numpy.ones(5, 'f')); p = e.to_torch(); p += 1; c = again()",
}


@pytest.mark.parametrize("count", [1000, 400_001], ids=["a small value", "a mapped value"])
def test_writing_to_a_tensor_touches_nothing_else(count, tmp_path):
    """Writing to a tensor neither ends the process nor changes the file or other calls' tensors.

    The values lie at offsets of every alignment.
    """
    path = tmp_path / "a.ckpt"
    data = checkpoint({"w" * length: np.ones(count, np.float32) for length in range(1, 9)})
    path.write_bytes(data)
    lines = ["import torch, numpy, lazyckpt", f"again = lambda: lazyckpt.load_checkpoint({str(path)!r})", "c = again()"]
    for name, write in WRITES.items():
        lines += ["p, other = c['w'].to_torch(), c['w'].to_torch()", write]
        lines.append(f"print({name!r}, bool((p != 1).any()), bool((other == 1).all()), sep='|')")
    lines.append("print(all((value.asnumpy() == 1).all() for value in c.values()))")
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)

    assert done.stdout.split("\n") == [*(f"{name}|True|True" for name in WRITES), "True", ""], done.stderr[-2000:]
    assert done.returncode == 0
    assert path.read_bytes() == data


def test_tensors_outlive_the_checkpoint(tmp_path):
    """Tensors stay when the checkpoint is closed and the file is removed."""
    path = tmp_path / "a.ckpt"
    path.write_bytes(checkpoint({"a": counting((3,)), "b": counting((300_000,))}))
    ckpt = lazyckpt.load_checkpoint(str(path))
    made = {name: param.to_torch() for name, param in ckpt.items()}
    ckpt.close()
    path.unlink()

    assert {name: bits(one) for name, one in made.items()} == {
        "a": counting((3,)).tobytes(),
        "b": counting((300_000,)).tobytes(),
    }


def test_strings_stay_strings():
    """From a checkpoint with all kinds of values the tensors are taken, and the rest is reported as unused."""
    net = {name: (array.shape, array.dtype.name.capitalize()) for name, array in LAYERS.items()}
    module = module_of(net)
    result = load_into(module, opened_over(BytesSource(checkpoint(MIXED))), strict_load=True)

    assert result == ([], ["note", "empty", "table"])
    assert {name: found[2] for name, found in state(module).items()} == {
        name: array.tobytes() for name, array in LAYERS.items()
    }


def _of_torch(dtype):
    """Four rows of values of a torch dtype, of any bits."""
    width = 16 if dtype is torch.complex64 else 4 * dtype.itemsize
    data = torch.arange(4 * width * 4, dtype=torch.int32).remainder(2 if dtype is torch.bool else 251)
    return data.to(torch.uint8).reshape(4, -1).view(dtype)


@pytest.mark.parametrize("name", sorted(safetensors.torch._TYPES))
def test_what_torch_saves_is_read(name, tmp_path):
    """Every dtype that safetensors.torch can save and load: the same dtype by name, the same shape, the same bytes."""
    tensor = _of_torch(safetensors.torch._TYPES[name])
    safetensors.torch.save_file({"w": tensor}, tmp_path / "w.safetensors")
    with lazyckpt.load_checkpoint(tmp_path / "w.safetensors", format="safetensors") as ckpt:
        dtype, array = ckpt["w"].dtype, ckpt["w"].asnumpy()

    assert (dtype.safetensors, dtype.numpy, array.shape) == (name, array.dtype, tuple(tensor.shape))
    assert array.tobytes() == bits(tensor)


def test_values_of_eight_bits_are_torchs(tmp_path):
    """Every code of an 8-bit float means the number that torch takes it for."""
    names = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    tensors = {name: codes.clone().view(getattr(torch, name)) for name in names}
    safetensors.torch.save_file(tensors, tmp_path / "w.safetensors")
    with lazyckpt.load_checkpoint(tmp_path / "w.safetensors", format="safetensors") as ckpt:
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(ckpt[name].asnumpy().astype("f4"), tensor.to(torch.float32).numpy())


def _pack_of_torch():
    """Torch's own `pack_uint4`, from its file, because other code there needs packages that torch does not install."""
    path = Path(torch.__file__).parent / "testing" / "_internal" / "common_quantized.py"
    wanted = {"down_size", "pack_uint4"}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in wanted]
    names = {"torch": torch}
    exec(compile(tree, str(path), "exec"), names)
    return names["pack_uint4"]


def test_values_of_four_bits_are_those_that_torch_packs(tmp_path):
    """Torch packs two into a byte, the first into its lower half, and writes a shape that counts elements."""
    values = np.array([[0, 0.5, 1, 1.5, 2, 3], [4, 6, -0.5, -1, -4, -6]], ml_dtypes.float4_e2m1fn)
    packed = _pack_of_torch()(torch.from_numpy(values.view(np.uint8))).view(torch.float4_e2m1fn_x2)
    safetensors.torch.save_file({"w": packed}, tmp_path / "w.safetensors")
    with lazyckpt.load_checkpoint(tmp_path / "w.safetensors", format="safetensors") as ckpt:
        array = ckpt["w"].asnumpy()

    assert (tuple(packed.shape), array.shape, array.dtype) == ((2, 3), (2, 6), values.dtype)
    assert array.tolist() == values.tolist()


SAVED = {
    "floats": lambda: torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "a scalar": lambda: torch.tensor(17),
    "nothing": lambda: torch.zeros(0, 3),
    "transposed": lambda: torch.arange(6).reshape(2, 3).T,
    "strided": lambda: torch.arange(20, dtype=torch.int16)[::3],
    "with a gradient": lambda: torch.ones(3, requires_grad=True),
    "a parameter": lambda: nn.Parameter(torch.ones(3, dtype=torch.float64)),
    "flags": lambda: torch.tensor([True, False]),
}


@pytest.mark.parametrize("what", SAVED)
def test_tensors_are_saved(what, tmp_path):
    """Tensors of any layout, trained or not, are saved as the numpy array of the same values."""
    tensor = SAVED[what]()
    lazyckpt.save_checkpoint({"w": tensor}, tmp_path / "net.ckpt", align=1)

    assert (tmp_path / "net.ckpt").read_bytes() == checkpoint({"w": tensor.detach().numpy()})


@pytest.mark.parametrize("layout", [lambda tensor: tensor, lambda tensor: tensor.T], ids=["plain", "transposed"])
def test_bfloat16_tensors_are_saved(layout, tmp_path):
    """bfloat16 tensors are saved bit for bit, though numpy has no such dtype."""
    tensor = layout((torch.arange(6).reshape(2, 3) / 7).to(torch.bfloat16))
    lazyckpt.save_checkpoint({"w": tensor}, tmp_path / "net.ckpt")
    with lazyckpt.load_checkpoint(tmp_path / "net.ckpt") as ours:
        assert str(ours["w"].dtype) == "BFloat16"
        assert torch.equal(ours["w"].to_torch(), tensor)


def test_conjugates_are_saved_as_what_they_are(tmp_path):
    """torch conjugates and negates lazily."""
    tensor = torch.tensor([1 + 2j, 3 - 4j], dtype=torch.complex64)
    lazyckpt.save_checkpoint({"c": tensor.conj(), "n": tensor.conj().imag}, tmp_path / "net", format="safetensors")
    with lazyckpt.load_checkpoint(tmp_path / "net.safetensors", format="safetensors") as ours:
        assert ours["c"].asnumpy().tolist() == [1 - 2j, 3 + 4j]
        assert ours["n"].asnumpy().tolist() == [-2, 4]


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.ones(3, device="meta"),
        lambda: torch.ones(3).to(torch.float8_e4m3fn),
        lambda: torch.ones(3, dtype=torch.complex128),
    ],
    ids=["sparse", "without data", "float8", "complex128"],
)
def test_tensors_that_no_file_holds_are_refused_by_name(make, tmp_path):
    """The error has torch's own reason, before anything is written."""
    with pytest.raises(ArgumentTypeError, match="'w' cannot be saved: "):
        lazyckpt.save_checkpoint({"w": make()}, tmp_path / "net.ckpt")

    assert list(tmp_path.iterdir()) == []


def test_a_tensor_that_is_trained_on_is_saved_as_it_was(tmp_path):
    """Saving in the background copies first, though the array shares the tensor's memory."""
    tensor = torch.ones(1000)
    future = lazyckpt.save_checkpoint({"w": tensor}, tmp_path / "net.ckpt", async_save=True, align=1)
    tensor.zero_()
    future.result(60)

    assert (tmp_path / "net.ckpt").read_bytes() == checkpoint({"w": np.ones(1000, "float32")})


# Workers of a data loader


class Rows(torch.utils.data.Dataset):
    """The rows of a parameter, as a data set."""

    def __init__(self, param):
        self.param = param

    def __len__(self):
        return len(self.param)

    def __getitem__(self, row):
        return torch.from_numpy(np.array(self.param[row]))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of a fork beside threads, which are idle
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_a_data_loader_read_the_file_themselves(method, tmp_path):
    """Each worker, however it was started, opens the file once; the rows come in order."""
    (tmp_path / "net.ckpt").write_bytes(checkpoint({"w": counting((20, 3))}))
    with lazyckpt.load_checkpoint(str(tmp_path / "net.ckpt")) as ckpt:
        loader = torch.utils.data.DataLoader(
            Rows(ckpt["w"]), batch_size=4, num_workers=2, multiprocessing_context=method
        )
        rows = torch.cat(list(loader))

    assert np.array_equal(rows.numpy(), counting((20, 3)))


class Tied(nn.Module):
    """A module with tied weights and a buffer that is a part of another; or the same with memory for each."""

    def __init__(self, is_tied=True, device="cpu"):
        super().__init__()
        self.embed = nn.Embedding(10, 4, device=device)
        self.lm_head = nn.Linear(4, 10, bias=False, device=device)
        self.register_buffer("scale", torch.arange(8.0, device=device))
        self.register_buffer("part", torch.zeros(4, device=device))
        if is_tied:
            self.lm_head.weight = self.embed.weight
            self.part = self.scale[:4]


@pytest.mark.parametrize("save", ["save_model", "save_file"])
@pytest.mark.parametrize("is_tied", [True, False])
def test_tied_weights_are_not_missing(save, is_tied, tmp_path):
    """A file with one name of each memory fills all of a tied module, and of another what is an alias."""
    path = tmp_path / "net.safetensors"
    saved = Tied()
    if save == "save_model":
        safetensors.torch.save_model(saved, str(path))
    else:
        kept = {name: value for name, value in saved.state_dict().items() if name in ("embed.weight", "scale")}
        safetensors.torch.save_file(kept, path)
    module = Tied(is_tied)
    with lazyckpt.load_checkpoint(path, format="safetensors", index="memory") as ckpt:
        report = lazyckpt.match(module, ckpt)
        missing, unused = load_into(module, ckpt)

    expected = [] if is_tied else ["part"] if save == "save_model" else ["lm_head.weight", "part"]
    assert (sorted(missing), unused) == (expected, [])
    assert sorted(row.name for row in report.rows if row.outcome == "missing") == expected
    for name, value in saved.state_dict().items():
        assert torch.equal(module.state_dict()[name], value) or name in expected


def test_tied_weights_without_memory_are_not_missing():
    """On the meta device tied parameters are one object."""
    saved = {"embed.weight": np.zeros((10, 4), np.float32), "scale": np.zeros(8, np.float32)}
    outcomes = {row.name: row.outcome for row in lazyckpt.match(Tied(device="meta"), saved).rows}

    assert (outcomes["lm_head.weight"], outcomes["part"]) == ("tied", "missing")
