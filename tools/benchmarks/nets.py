"""Loading into nets, of MindSpore and of torch. The net is there, and its memory taken, before anything is timed."""

from __future__ import annotations

from typing import Any

from benchmarks.task import Task

Shape = list[int]


def mindspore_by_lazyckpt(path: str, names: list[str], shape: Shape) -> Task:
    """Load a checkpoint that has an index into a MindSpore net that has these of its values."""
    import lazyckpt

    lazyckpt.build_index(path).close()
    net = _cell(names, shape)
    return Task(lambda: lazyckpt.load_param_into_net(net, lazyckpt.load_checkpoint(path)), seen=lambda _: _values(net))


def mindspore_alone(path: str, names: list[str], shape: Shape) -> Task:
    """The same with MindSpore alone."""
    import mindspore

    net = _cell(names, shape)
    return Task(
        lambda: mindspore.load_param_into_net(net, mindspore.load_checkpoint(path)), seen=lambda _: _values(net)
    )


def torch_by_lazyckpt(path: str, names: list[str], shape: Shape) -> Task:
    """Load a checkpoint that has an index into a torch module that has these of its values."""
    import lazyckpt
    from lazyckpt.frameworks.torch import load_into

    module = _module(names, shape)
    return Task(
        lambda: load_into(module, lazyckpt.load_checkpoint(path)), seen=lambda _: list(module.state_dict().items())
    )


def torch_by_torch(path: str, names: list[str], shape: Shape) -> Task:
    """The same with `torch.load(mmap=True)` and `load_state_dict`."""
    import torch

    module = _module(names, shape)

    def call() -> object:
        return module.load_state_dict(torch.load(path, mmap=True, weights_only=True), strict=False)

    return Task(call, seen=lambda _: list(module.state_dict().items()))


def torch_by_safetensors(path: str, names: list[str], shape: Shape) -> Task:
    """The same with `safetensors.torch.load_model`."""
    from safetensors.torch import load_model

    module = _module(names, shape)
    return Task(lambda: load_model(module, path, strict=False), seen=lambda _: list(module.state_dict().items()))


def torch_copies(path: str, values: list[tuple[str, int, Shape]]) -> Task:
    """Torch's own copies out of a map of the file, places known, into tensors that are there."""
    import mmap

    import torch

    with open(path, "rb") as file:
        mapped = torch.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), dtype=torch.uint8)
    tensors = {name: torch.ones(shape) for name, _, shape in values}

    def call() -> None:
        for name, offset, _ in values:
            whole = tensors[name].view(torch.uint8).reshape(-1)
            whole.copy_(mapped[offset : offset + len(whole)])

    return Task(call, seen=lambda _: list(tensors.items()))


def _cell(names: list[str], shape: Shape) -> Any:
    import mindspore
    import numpy as np

    net = mindspore.nn.Cell()
    for number, name in enumerate(names):
        data = mindspore.Tensor(np.ones(shape, np.float32))
        net.insert_param_to_cell(f"p{number}", mindspore.Parameter(data, name), check_name_contain_dot=False)
    return net


def _values(net: Any) -> list[tuple[str, Any]]:
    return [(parameter.name, parameter.asnumpy()) for parameter in net.get_parameters()]


def _module(names: list[str], shape: Shape) -> Any:
    import torch

    module = torch.nn.Module()
    for name in names:
        *path, last = name.split(".")
        inner = module
        for part in path:
            if not hasattr(inner, part):
                inner.add_module(part, torch.nn.Module())
            inner = getattr(inner, part)
        inner.register_parameter(last, torch.nn.Parameter(torch.ones(shape)))
    return module
