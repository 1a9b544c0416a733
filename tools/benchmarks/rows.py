"""The rows of the table: each section is a function from the files of a run to its rows, in order."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterator

from encryption import MODES

from benchmarks import limits, tasks
from benchmarks.case import CORES, MINDSPORE, NEAR, PEER, WITHIN, Bar, Case, Side, limit
from benchmarks.files import MIB, Files, Placed
from benchmarks.limits import FRAME_PLAINTEXT, PIECE, openssl_frames, openssl_range
from benchmarks.output import memory
from benchmarks.peers import opened, opening

_LAZY = ("safetensors", "safetensors-torch", "torch", "h5py", "zarr", "tensorizer")
_LOADING = ("safetensors", "safetensors-torch", "torch", "numpy", "h5py")
_PARTS = (*_LOADING, "zarr")
_ALL = (*_PARTS, "tensorizer")
_STEPS = ("torch", "numpy", "h5py", "zarr")  # slices of safetensors have no steps
_MINDSPORE = ("mindspore",)
_KINDS = ("processes", "dask") if importlib.util.find_spec("distributed") else ("processes",)


def opens(files: Files) -> Iterator[Case]:
    """Opening a file that has an index, and looking names up, whatever the count and the size of values."""
    for what, peers, bar in (
        ("terabyte", (), Bar("seconds", 0.5e-3)),
        ("thousand", _LAZY, PEER),
        ("hundred_thousand", _LAZY[:2], PEER),
        ("many", (), Bar("seconds", 0.5e-3)),
    ):
        file = files[what]
        name = f"warm open + look-up, {file.sizes if what == 'terabyte' else f'{file.count} parameters'}"
        bare = limit("LMDB open + get + stat", limits.lmdb_look_up, file, "lmdb", "lazyckpt", names=file.names[::97])
        how = {"act": "look_up", "names": file.names[::97]}
        yield Case(name, file, opening, how, peers, bare, turns=11, calls=20, bars=(bar, NEAR), alone=not peers)
    thousand, half, many = files["thousand"], files["half"], files["many"]
    name, how = "warm open + one small value of 1,000", {"act": "copy", "name": thousand.names[517]}
    yield Case(name, thousand, opening, how, _LAZY, turns=11, calls=10, bars=(PEER,), alone=False)
    how, bars = {"act": "nothing"}, (Bar("seconds", 0.6e-3), PEER)
    yield Case("warm load, LeNet", files.lenet, opening, how, _MINDSPORE, turns=11, calls=10, bars=bars)
    how = {"name": half.names[64]}
    yield Case(f"one of {half.sizes}, chosen, sum", half, tasks.chosen, how, _MINDSPORE, bars=(MINDSPORE,))
    fast = {"turns": 11, "bars": (Bar("seconds", 5e-6),), "alone": False}
    how, peers = {"act": "access", "names": thousand.names}, ("safetensors", "torch", "h5py", "zarr")
    yield Case("file[name], 1,000 parameters", thousand, opened, how, peers, **fast)  # peers give a tensor of a dict
    how = {"act": "access", "names": many.names[::983]}
    yield Case(f"file[name], {many.count} parameters", many, opened, how, **fast)
    yield Case("an attribute of a Parameter", thousand, tasks.attributes, {"names": thousand.names}, **fast)
    yield Case(f"all names of {many.count}", many, opening, {"act": "names"}, bars=(Bar("seconds", 0.6),))
    names = many.names[:: max(100, len(many.names) // 50)]
    how = {"act": "select", "names": sorted({".".join(name.split(".")[:3]) + "." for name in names})}
    name = f"select(prefix): 100 names of {many.count}"
    yield Case(name, many, opened, how, turns=11, calls=5, bars=(Bar("seconds", 1e-3),), alone=False)


def indexes(files: Files) -> Iterator[Case]:
    """The first open of a file, which writes and syncs the sidecar."""
    terabyte, many, holes = files["terabyte"], files["many"], files["holes"]
    name, bars = f"first index, {terabyte.sizes}", (Bar("seconds", 1.0),)
    yield Case(name, terabyte, tasks.index, forget="index", fresh=True, bars=bars)
    yield Case(f"{name}, cold", terabyte, tasks.index, forget="index, pages", turns=3, fresh=True)  # a page a header
    bars = (Bar("seconds", 4.0), Bar("peak", 400 * MIB), WITHIN)
    bare, name = limit("bare header walk", limits.header_walk, many), f"first index, {many.count} parameters"
    yield Case(name, many, tasks.index, limit=bare, forget="index", turns=3, fresh=True, bars=bars)
    name, bars = f"first index, {holes.sizes}", (Bar("seconds", 20e-3),)
    yield Case(name, holes, tasks.index, forget="index", turns=11, calls=3, bars=bars)
    for said, act, at_most in (("first load", "nothing", 1.5), ("first load + every value", "load", 1.1)):
        how, often = {"act": act}, {"turns": 11, "calls": 5, "bars": (Bar("ratio", at_most),)}
        yield Case(f"{said}, LeNet", files.lenet, opening, how, _MINDSPORE, forget="index", **often)


def reads(files: Files) -> Iterator[Case]:
    """Reading one value, or all values in file order, from the page cache and from the disk."""
    terabyte, large, small = files["terabyte"], files["large"], files["hundred_thousand"]
    how = {"act": "row", "name": terabyte.names[len(terabyte.names) // 2], "row": 2_500}
    name, bars = f"one row of one of {terabyte.sizes}", (Bar("extra", 100 * MIB),)
    yield Case(name, terabyte, opening, how, turns=11, calls=10, bars=bars)
    one, everything, bars = f"one of {large.sizes}", f"all of {large.sizes}, load()", (PEER, WITHIN)
    value = large.values[29]
    for act, said, label in (("sum", "view + sum", "numpy sum"), ("copy", "copy", "memcpy")):
        bare = limit(label, limits.numpy_on_map, large, "numpy", offset=value.offset, shape=value.shape, act=act)
        how = {"act": act, "name": value.name}
        yield Case(f"{one}, {said}", large, opening, how, _ALL, bare, turns=11, calls=3, bars=bars)
    bare = limit("memcpy", limits.memcpy, large, "numpy", values=large.values)
    yield Case(everything, large, opening, {"act": "load"}, _ALL + _MINDSPORE, bare, bars=(PEER, NEAR))
    bare = limit("one memcpy + arrays", limits.one_memcpy, small, "numpy", values=small.values)
    name = f"all of {small.count} small values, load()"
    yield Case(name, small, opening, {"act": "load"}, _LOADING[:3], bare, bars=bars)
    value, cold = large.values[41], {"forget": "pages", "bars": bars, "alone": False}
    place = {"offset": value.offset, "length": value.length, "forget": "pages"}
    bare, how = limit("pread", limits.read_range, large, **place), {"act": "copy", "name": value.name}
    yield Case(f"{one}, copy, cold", large, opening, how, _PARTS, bare, **cold)
    bare = limit("read(2), kept nowhere", limits.read_through, large, forget="pages")
    yield Case(f"{everything}, cold", large, opening, {"act": "load"}, _LOADING, bare, turns=3, **cold)


def slices(files: Files) -> Iterator[Case]:
    """Parts of a big value of a file that is open. All sides give an array of its own: views are copied."""
    file, value = files["big"], files["big"].values[0]
    for said, full, small, peers in (
        ("one row", "5000", "50", _PARTS),
        ("100 rows", "1000:1100", "100:200", _PARTS),
        ("a block", "1000:1100, 2000:2300", "100:200, 200:230", _PARTS),
        ("every 64th row", "::64", "::8", _STEPS),
        ("rows and columns with steps", "::64, ::8", "::8, ::2", _STEPS),
        ("one column", ":, 17", ":, 17", _PARTS),
    ):
        key = full if files.full else small
        place = {"offset": value.offset, "shape": value.shape}
        bare = limit("numpy on a map", limits.numpy_on_map, file, "numpy", **place, act="part", key=key)
        how, name = {"act": "part", "name": value.name, "key": key}, f"{said} of {memory(value.length)}: [{key}]"
        yield Case(name, file, opened, how, peers, bare, turns=9, calls=25, bars=(PEER, WITHIN), alone=False)


def encryption(files: Files) -> Iterator[Case]:
    """Encrypted files, beside OpenSSL alone and beside MindSpore."""
    large = files["large"].values
    after = large[len(large) // 3 :]
    whole, across = (next(value for value in after if len(_frames(value)) == count) for count in (1, 2))
    options = {mode: {"dec_key": files.key, "dec_mode": mode} for mode in MODES}
    keys = {mode: {"mode": mode, "key": files.key} for mode in MODES}
    openssl = {
        mode: limit(f"OpenSSL, {CORES} threads", openssl_frames, files.encrypted(mode), threads=CORES, **keys[mode])
        for mode in MODES
    }
    for mode, said, value in (
        ("AES-GCM", "one value", whole),
        ("AES-GCM", "one value in two frames", across),
        ("AES-CBC", "one value", whole),
        ("SM4-CBC", "one value", whole),
    ):
        file, count = files.encrypted(mode), len(_frames(value))
        if mode == "AES-GCM":  # frames have to be verified whole
            place = {"first": _frames(value)[0], "count": count, "threads": min(count, CORES)}
            bare = limit(f"OpenSSL, {count} frame{'s' * (count > 1)}", openssl_frames, file, **keys[mode], **place)
        else:
            place = {"offset": value.offset, "length": value.length}
            bare = limit("OpenSSL, its bytes", openssl_range, file, **keys[mode], **place)
        how = {"act": "copy", "name": value.name, "options": options[mode]}
        bars = (WITHIN, Bar("extra", value.length + 2 * FRAME_PLAINTEXT))
        yield Case(f"{mode}: warm open + {said}", file, opening, how, (), bare, turns=9, calls=3, bars=bars)
    reading_bars = {"AES-GCM": (NEAR, WITHIN), "AES-CBC": (WITHIN, WITHIN), "SM4-CBC": (NEAR, NEAR)}
    for mode, (load_bar, iterate_bar) in reading_bars.items():
        for act, said, bar in (("load", "load()", load_bar), ("iterate", "asnumpy() one by one", iterate_bar)):
            name, how = f"{mode}: everything, {said}", {"act": act, "options": options[mode]}
            yield Case(name, files.encrypted(mode), opening, how, (), openssl[mode], turns=3, bars=(bar,))
    for mode in MODES:
        bars = (WITHIN,) if mode == "AES-GCM" else (Bar("seconds", 0.1), WITHIN)
        how, name = options[mode], f"{mode}: first index"
        yield Case(name, files.encrypted(mode), tasks.index, how, (), openssl[mode], bars=bars, forget="index")
    for mode in MODES:
        how, often = {"name": whole.name, **options[mode]}, {"turns": 3, "fresh": True, "bars": (MINDSPORE,)}
        yield Case(f"{mode}: one value, chosen, sum", files.encrypted(mode), tasks.chosen, how, _MINDSPORE, **often)


def _frames(value: Placed) -> range:
    return range(value.offset // FRAME_PLAINTEXT, (value.offset + value.length + PIECE) // FRAME_PLAINTEXT + 1)


def nets(files: Files) -> Iterator[Case]:
    """Loading every eighth value, or all, into nets, beside their own loading; into MindSpore's in fresh processes."""
    parts, large = files["parts"], files["large"]
    taken = (
        (f"8 of {parts.sizes}", parts, parts.names[::8], 1.3 * 8 * parts.values[0].length),
        (f"all of {large.sizes}", large, large.names, large.values[0].length + 64 * MIB),
    )
    within = {"within": "mindspore", "imports": ("mindspore", "lazyckpt", "lazyckpt.frameworks.mindspore")}
    for said, file, names, extra in taken:
        name, how = f"{said} into a MindSpore net", {"names": names, "shape": file.values[0].shape}
        bars = (PEER, Bar("extra", extra))
        yield Case(name, file, tasks.into_cell, how, _MINDSPORE, turns=3, fresh=True, bars=bars, **within)
    within = {"within": "torch", "imports": ("torch", "lazyckpt:load_checkpoint", "lazyckpt.frameworks.torch")}
    peers, bars = ("torch", "safetensors-torch"), (PEER, WITHIN)
    for said, file, names, _ in taken:
        name, how = f"{said} into a torch module", {"names": names, "shape": file.values[0].shape}
        values = [value for value in file.values if value.name in set(names)]
        bare = limit("copies by torch", limits.torch_copies, file, "torch", values=values)
        yield Case(name, file, tasks.into_module, how, peers, bare, bars=bars, alone=False, **within)


def conversions(files: Files) -> Iterator[Case]:
    """Writing, beside `cp` of the same file. Both sides flush to the disk."""
    whole, large, encrypted = files["whole"], files["large"], files.encrypted("AES-GCM")
    # At least 0.7 times as fast as cp, with the largest value and 128 MiB in memory.
    fast = (Bar("limit", 1 / 0.7), Bar("extra", (16 + 128) * MIB))
    for file, said, ending, bars, options in (
        (whole, "plain -> safetensors", "safetensors", fast, {"options": {}}),
        (whole, "plain -> aligned .ckpt", "ckpt", fast, {"options": {}}),
        (large, "plain -> AES-GCM", "ckpt", (WITHIN,), {"options": {"enc_key": files.key}}),
        (encrypted, "AES-GCM -> safetensors", "safetensors", (WITHIN,), {"options": {}, "dec_key": files.key}),
        (large, "plain -> Float16", "safetensors", (WITHIN,), {"options": {"dtype": "Float16"}}),
    ):
        bare = limit("cp, synced", limits.copy_file, file, target=f"{file.path}.copy", forget="target")
        how, name = {"target": f"{file.path}.to.{ending}", **options}, f"{memory(file.size)}, {said}"
        yield Case(name, file, tasks.convert, how, (), bare, turns=3, bars=bars, forget="target")


def statistics(files: Files) -> Iterator[Case]:
    """All values in a few numbers, beside numpy over a map of the file; of small values the cost of each counts."""
    large, small = files["large"], files["hundred_thousand"]
    for file, said, bars in (
        (large, f"{large.size / MIB:,.0f} MiB", (PEER, Bar("extra", 64 * MIB))),
        (small, f"{small.count} small values", (PEER,)),
    ):
        peer = Side("numpy on a memmap", tasks.numpy_statistics, {"path": file.path, "values": file.values}, ("numpy",))
        yield Case(f"statistics of {said}", file, opening, {"act": "stats"}, (peer,), bars=bars)


def sharing(files: Files) -> Iterator[Case]:
    """Processes that read one file at the same time: look-ups in one index, random values as DataLoaders read them."""
    many, half = files["many"], files["half"]
    how = {"act": "look_up", "names": many.names[:: max(1, len(many.names) // 1_000)]}
    for count in (4, 8):
        name, bars = f"{count} processes, one index of {many.count}: open + look-up", (Bar("private", 30 * MIB),)
        yield Case(name, many, opening, how, turns=3, calls=1_000, bars=bars, processes=count)
    how = {"act": "sums", "names": random.Random(11).choices(half.names, k=1024)}
    name = f"4 processes, random values of {half.sizes}, sum"
    yield Case(name, half, opened, how, _LOADING, turns=5, calls=2, bars=(PEER,), processes=4)


def trees(files: Files) -> Iterator[Case]:
    """The HTML that a notebook shows."""
    for file in (files["many"], files["terabyte"]):
        name = f"tree as HTML, {file.count} parameters"
        yield Case(name, file, opening, {"act": "html"}, bars=(Bar("seconds", 1.0),))


def imports(_: Files) -> Iterator[Case]:
    """Imports in fresh interpreters, beside numpy's. `load_checkpoint` is imported on its first use."""
    for name, code, whole in (
        ("import lazyckpt, the statement", "import lazyckpt", False),
        ("import lazyckpt, the whole process", "import lazyckpt", True),
        ("import load_checkpoint, the statement", "from lazyckpt import load_checkpoint", False),
    ):
        peer = Side("numpy", tasks.importing, {"code": "import numpy", "whole": whole}, (), memory=False)
        how, often = {"code": code, "whole": whole}, {"turns": 15, "bars": (Bar("ratio", 1.4),)}
        yield Case(name, None, tasks.importing, how, (peer,), imports=(), memory=False, **often)


def workers(files: Files) -> Iterator[Case]:
    """Many files indexed by workers that are running already, beside one file after the other in one process."""
    trees, counts = (("small", 400, 100), ("large", 8, 100_000)), (1, 2, 4)
    if not files.full:
        trees, counts = (("small", 20, 100),), (2,)  # each kind once: a cluster takes seconds to start
    for what, count, parameters in trees:
        paths = files.tree(what, count, parameters)
        peer = Side(
            "one after the other", tasks.index_many, {"paths": paths, "kind": "here"}, forget="index", memory=False
        )
        for kind, workers in ((kind, workers) for kind in _KINDS for workers in counts):
            name = f"index {len(paths)} {what} files, {kind} x {workers}"
            how = {"paths": paths, "kind": kind, "workers": workers}
            often = {"turns": 3, "forget": "index", "memory": False, "rate": len(paths)}
            yield Case(name, None, tasks.index_many, how, (peer,), **often)
