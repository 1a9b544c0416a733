"""`save_checkpoint`, with MindSpore's arguments, checked in MindSpore's order.

It differs from MindSpore's in these points: the old file stays until the new one is complete; payloads are aligned
unless `align=1`; the index is written with the file; empty tensors and plain Tensors in a dict are written too;
combinations that MindSpore writes but cannot load are refused (a checksum with a key, a map with either).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import numpy as np

from lazyckpt.checkpoint import Checkpoint
from lazyckpt.errors import ArgumentTypeError, ArgumentValueError, FolderInTheWay
from lazyckpt.formats import FORMAT_NAMES
from lazyckpt.frameworks.nets import values_of
from lazyckpt.runtime import log
from lazyckpt.runtime.folders import resolved_output
from lazyckpt.sources.encryption.cipher import DEFAULT_MODE
from lazyckpt.sources.encryption.keys import Secret, no_key
from lazyckpt.sources.paths import require_local
from lazyckpt.writing.adapters import is_parameter, is_tensor, item_of
from lazyckpt.writing.export import lock_of
from lazyckpt.writing.files import ALIGNMENT, READ_ONLY, SAVED_HERE, WriteOptions, check, save
from lazyckpt.writing.items import Item, snapshot
from lazyckpt.writing.safetensors import REMOVE_REDUNDANCY

ChoiceFunction = Callable[[str], object]
_BACKGROUND: Final = ("thread", "process")
_METADATA: Final = {"format": "ms"}


def save_checkpoint(
    save_obj: Any,
    ckpt_file_name: str | os.PathLike[str],
    integrated_save: bool = True,
    async_save: bool | str = False,
    append_dict: Mapping[str, Any] | None = None,
    enc_key: bytes | None = None,
    enc_mode: str = DEFAULT_MODE,
    choice_func: ChoiceFunction | None = None,
    crc_check: bool = False,
    format: str = "ckpt",
    remove_redundancy: bool | None = None,
    *,
    align: int = ALIGNMENT,
    mode: int = READ_ONLY,
) -> Future[None] | None:
    """Save values to a file atomically, with the arguments of `mindspore.save_checkpoint`.

    >>> import numpy as np
    >>> lazyckpt.save_checkpoint({"w": np.ones((2, 3), "float32"), "note": "mine"}, "new.ckpt")
    >>> lazyckpt.load_checkpoint("new.ckpt")
    {'w': Parameter (name=w, shape=(2, 3), dtype=Float32, requires_grad=True), 'note': <str of 4 characters>}

    Args:
        save_obj: a MindSpore Cell; a list of Parameters or of dicts `{"name": …, "data": Tensor}`; a dict of
            Parameters, Tensors, arrays and strings; or a `Checkpoint`, whose values are copied in pieces.
        ckpt_file_name: the file; `format` is appended as an extension unless the name ends with it.
        integrated_save: for a Cell in a parallel run, merge the slices of each parameter.
        async_save: return immediately and write on a background thread (`True`, `"thread"` and `"process"` mean the
            same). Values in memory are copied before the return. Values in a file are read later, so a `Checkpoint`
            must stay open until then. Files are written one after the other.
        append_dict: further values: numbers, bools, strings, Parameters, Tensors, Generators.
        enc_key: the key to encrypt with.
        enc_mode: AES-GCM, AES-CBC or SM4-CBC.
        choice_func: a function of the name; values of `save_obj` for which it returns true are saved.
        crc_check: store a checksum.
        format: `ckpt` or `safetensors`.
        remove_redundancy: for safetensors, record in the file whether redundancy was removed.
        align: the alignment of payloads in bytes, so that they can be mapped. MindSpore reads files of any alignment;
            1 writes the same bytes as MindSpore.
        mode: permission bits. By default, as in MindSpore, the owner can read the file and nobody can write to it.

    Returns:
        None, or with `async_save` a Future, whose `result()` raises the error if saving failed (it is also logged).

    Raises:
        TypeError: an argument or a value has the wrong type (`ArgumentTypeError`).
        ValueError: an argument has an invalid value, or the format cannot hold a value (`ArgumentValueError`).
        OSError: the file cannot be written (`UnwritableFile`, `MissingFolder`, `FolderInTheWay`). An existing file
            is kept after every error.

    Cost: reads each value once, in pieces. Syncs the file before renaming it, and writes its index.
    """
    kind_of_key = type(enc_key)
    key = Secret(enc_key) if isinstance(enc_key, bytes) else None
    enc_key = None  # keeps the key out of tracebacks that show local variables
    path = _check_file(save_obj, ckpt_file_name, format)
    if not isinstance(integrated_save, bool):
        raise ArgumentTypeError(f"The input value must be a bool, but got {type(integrated_save).__name__}.")
    _check_async(async_save)
    appended = _check_append(append_dict)
    _check_options(kind_of_key, enc_mode, crc_check, format, remove_redundancy)
    chosen = _items(save_obj, integrated_save, choice_func)
    items = list(
        {item.name: item for item in [*chosen, *appended]}.values()
    )  # a repeated name keeps its first position and its last value
    metadata = dict(_METADATA) if items else {}
    if remove_redundancy is not None and items:
        metadata[REMOVE_REDUNDANCY] = str(remove_redundancy)
    lock = lock_of(key, enc_mode) if key is not None and items else None
    how = WriteOptions(format, lock, crc_check, align, mode, metadata)
    check(items, how)
    if not async_save:
        save(path, items, how)
        return None
    copies = [snapshot(item) for item in items]
    return _background_work.submit(_save_and_tell, path, copies, how)


def _save_and_tell(path: str, items: list[Item], how: WriteOptions) -> None:
    try:
        save(path, items, how)
    except BaseException:
        log.exception("saving %s in the background failed", path)
        raise


def _begin() -> None:
    """Create the executor that saves in the background; Python waits for its thread at exit."""
    global _background_work
    _background_work = ThreadPoolExecutor(1, thread_name_prefix="lazyckpt-save")


_background_work: ThreadPoolExecutor
_begin()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin)  # threads do not survive a fork


def _items(save_obj: Any, integrated_save: bool, choice: ChoiceFunction | None) -> list[Item]:
    """The items to save, in order; names may be repeated."""
    if isinstance(save_obj, Checkpoint):
        access = save_obj._access
        return [access.item(name, name) for name in save_obj if choice is None or choice(name)]
    if isinstance(save_obj, list):
        named = [_listed(element, save_obj[0]) for element in save_obj]
    elif isinstance(save_obj, dict):
        named = [_keyed(name, value) for name, value in save_obj.items()]
    else:
        named = values_of(save_obj, integrated_save) or []
    return [item_of(name, value) for name, value in named if choice is None or choice(name)]


def _listed(element: Any, first: Any) -> tuple[str, Any]:
    """The name and value of a list element. The elements are either all dicts or all Parameters."""
    if not isinstance(first, dict):
        if not is_parameter(element):
            raise ArgumentTypeError(
                "For save_checkpoint, when save_obj is made up by list of Parameter, the param should be parameter,"
                f" but got {type(element)}"
            )
        return element.name, element
    if not isinstance(element, dict) or "name" not in element or "data" not in element:
        raise ArgumentTypeError(
            "For save_checkpoint, save_obj should be a list of dict items, and the dict should have key values 'name'"
            f" and 'data', but got {type(element)}"
        )
    name, data = element["name"], element["data"]
    if not isinstance(name, str):
        raise ArgumentTypeError(
            "For save_checkpoint, when save_obj is a list of dict items, the name in dict should be string, but got"
            f" {type(name)}."
        )
    if not is_tensor(data):
        raise ArgumentTypeError(
            "For save_checkpoint, when save_obj is a list of dict items, the data in dict should be parameter, but got"
            f" {type(data)}."
        )
    return name, data


def _keyed(name: Any, value: Any) -> tuple[str, Any]:
    if not isinstance(name, str):
        raise ArgumentTypeError(
            "For save_checkpoint, when save_obj is made up by dict, the key should be str and value should be"
            f" Parameter, but got the type of key is {type(name)} and the type of value is {type(value)}"
        )
    return name, value


def _check_file(save_obj: Any, name: object, form: object) -> str:
    if form not in FORMAT_NAMES:
        raise ArgumentValueError(
            f"For 'save_checkpoint', the format must be 'safetensors' or 'ckpt', but got {form!r}."
        )
    if not isinstance(save_obj, (list, dict, Checkpoint)) and values_of(save_obj, True) is None:
        raise ArgumentTypeError(
            f"For 'save_checkpoint', the parameter 'save_obj' must be nn.Cell, list or dict, but got {type(save_obj)}."
        )
    path = os.fspath(name) if isinstance(name, os.PathLike) else name
    if not isinstance(path, str):
        raise ArgumentTypeError(
            f"For 'save_checkpoint', the parameter 'ckpt_file_name' must be a string or a path, but got {type(name)}."
        )
    path = resolved_output(require_local(path, SAVED_HERE))
    if os.path.isdir(path):
        raise FolderInTheWay(
            errno.EISDIR,
            f"For 'save_checkpoint', the parameter `ckpt_file_name`: {path} is a directory, it must be a file name.",
        )
    return path if path.endswith(str(form)) else f"{path}.{form}"


def _check_async(async_save: object) -> None:
    if not isinstance(async_save, (bool, str)):
        raise ArgumentTypeError(
            f"For 'save_checkpoint', the parameter 'async_save' must be bool or str, but got {type(async_save)}."
        )
    if isinstance(async_save, str) and async_save not in _BACKGROUND:
        raise ArgumentValueError(
            "For 'save_checkpoint', the argument 'async_save' can only be 'process' or 'thread', but got"
            f" {async_save!r}."
        )


def _check_append(append_dict: Any) -> list[Item]:
    if append_dict is None:
        return []
    if not isinstance(append_dict, dict):
        raise ArgumentTypeError(
            f"For 'save_checkpoint', the argument 'append_dict' must be dict, but got {type(append_dict)}."
        )
    return [_appended(name, value) for name, value in append_dict.items()]


def _appended(name: Any, value: Any) -> Item:
    state = getattr(value, "get_state", None)
    if callable(state) and type(value).__name__ == "Generator":  # MindSpore's random number generator
        value = state()
    allowed = isinstance(value, (bool, int, float, str)) and not isinstance(value, np.generic)
    if not isinstance(name, str) or not (allowed or is_tensor(value)):
        raise ArgumentTypeError(
            "For 'save_checkpoint', the type of dict 'append_info' must be key: string, value: int, float, bool,"
            f" str, Parameter, Tensor or Generator, but got key: {type(name)}, value: {type(value)}"
        )
    return item_of(name, value)


def _check_options(key: type, enc_mode: object, crc: object, form: str, redundancy: object) -> None:
    if not issubclass(key, (bytes, type(None))):
        raise no_key("enc_key", key)
    if not isinstance(enc_mode, str):
        raise ArgumentValueError(f"The parameter 'enc_mode' must be str, but got {type(enc_mode).__name__}.")
    if not isinstance(crc, bool):
        raise ArgumentValueError(f"The parameter 'crc_check' must be bool, but got {crc!r}.")
    if redundancy is not None and not isinstance(redundancy, bool):
        raise ArgumentValueError(f"The parameter 'remove_redundancy' must be bool or None, but got {redundancy!r}.")
    if form == "safetensors" and (key is not type(None) or enc_mode != DEFAULT_MODE):
        raise ArgumentValueError(
            "For 'save_checkpoint', when format is 'safetensors', 'enc_key' and 'enc_mode' must be left at their"
            " defaults: safetensors files are not encrypted."
        )
