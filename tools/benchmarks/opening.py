"""Rows about opening and looking up."""

from __future__ import annotations

from functools import partial

from benchmarks.bars import MINDSPORE, NEAR, PEER, sizes
from benchmarks.checkpoints import Made
from benchmarks.figures import Bar, Row
from benchmarks.processes import Side
from benchmarks.run import Run, limit

_ALL = ("safetensors", "safetensors-torch", "torch", "h5py", "zarr", "tensorizer")


def terabyte(run: Run) -> Row:
    """Opening costs the same for any number of parameters and any size of values."""
    file = run.files.terabyte
    bare = limit("LMDB open + get + stat", "lmdb_look_up", ("lmdb", "lazyckpt"), path=file.path, names=file.names[::97])
    mine = Side("lazyckpt", "opened.look_up", {"by": "lazyckpt", "path": file.path, "names": file.names[::97]})
    return run.compare(
        f"warm open + look-up, {sizes(file)}", mine, (), bare, turns=11, calls=20, bars=(Bar("seconds", 0.5e-3), NEAR)
    )


def looked_up(run: Run, what: str, peers: tuple[str, ...], bars: tuple[Bar, ...]) -> Row:
    """Neither does it matter for looking a name up."""
    file: Made = getattr(run.files, what)
    names = file.names[::97]
    mine, beside = run.opened("look_up", file, peers, names=names)
    bare = limit("LMDB open + get + stat", "lmdb_look_up", ("lmdb", "lazyckpt"), path=file.path, names=names)
    name = f"warm open + look-up, {len(file.values):,} parameters"
    return run.compare(name, mine, beside, bare, turns=11, calls=20, bars=bars, alone=not beside)


def value(run: Run) -> Row:
    """Open a file of a thousand, and have one small value."""
    file = run.files.thousand
    mine, peers = run.opened("value", file, _ALL, name=file.names[517], how="copy")
    return run.compare(
        "warm open + one small value of 1,000", mine, peers, turns=11, calls=10, bars=(PEER,), alone=False
    )


def lenet(run: Run) -> Row:
    """A small file must not be slower than with MindSpore."""
    path = run.files.lenet.path
    mine = Side("lazyckpt", "tasks.open_warm", {"path": path})
    bars = (Bar("seconds", 0.6e-3), PEER)
    peers = run.mindspore("tasks.mindspore_names", path=path)
    return run.compare("warm load, LeNet", mine, peers, turns=11, calls=10, bars=bars)


def chosen(run: Run) -> Row:
    """What `choice_func` saves."""
    file = run.files.half
    arguments = {"path": file.path, "name": file.names[64]}
    mine, peers = Side("lazyckpt", "tasks.chosen", arguments), run.mindspore("tasks.mindspore_chosen", **arguments)
    return run.compare(f"one of {sizes(file)}, chosen, sum", mine, peers, turns=5, bars=(MINDSPORE,))


def access(run: Run) -> Row:
    """What `file[name]` takes once the file is open. Peers give lesser things here: a dict's tensor, a lazy slice."""
    file = run.files.thousand
    mine, peers = run.opened("access", file, ("safetensors", "torch", "h5py", "zarr"), names=file.names)
    bars = (Bar("seconds", 5e-6),)
    return run.compare("file[name], 1,000 parameters", mine, peers, turns=11, bars=bars, alone=False)


def access_many(run: Run) -> Row:
    """The same where names are many, each asked for once."""
    file = run.files.many
    mine, _ = run.opened("access", file, (), names=file.names[::983])
    name = f"file[name], {len(file.values):,} parameters"
    return run.compare(name, mine, turns=11, bars=(Bar("seconds", 5e-6),), alone=False)


def attributes(run: Run) -> Row:
    """What name, shape, dtype and nbytes of a Parameter take."""
    file = run.files.thousand
    mine = Side("lazyckpt", "tasks.attributes", {"path": file.path, "names": file.names})
    return run.compare("an attribute of a Parameter", mine, turns=11, bars=(Bar("seconds", 5e-6),), alone=False)


def walk(run: Run) -> Row:
    """All names in file order."""
    file = run.files.many
    mine = Side("lazyckpt", "tasks.all_names", {"path": file.path})
    return run.compare(f"all names of {len(file.values):,}", mine, turns=5, bars=(Bar("seconds", 0.6),))


def select(run: Run) -> Row:
    """A prefix, of which there are a hundred."""
    file = run.files.many
    prefixes = sorted({".".join(name.split(".")[:3]) + "." for name in file.names[:: max(100, len(file.names) // 50)]})
    mine = Side("lazyckpt", "tasks.select", {"path": file.path, "prefixes": prefixes})
    name = f"select(prefix): 100 names of {len(file.values):,}"
    return run.compare(name, mine, turns=11, calls=5, bars=(Bar("seconds", 1e-3),), alone=False)


OPEN = (
    terabyte,
    partial(looked_up, what="thousand", peers=_ALL, bars=(PEER, NEAR)),
    partial(looked_up, what="hundred_thousand", peers=("safetensors", "safetensors-torch"), bars=(PEER, NEAR)),
    partial(looked_up, what="many", peers=(), bars=(Bar("seconds", 0.5e-3), NEAR)),
    *(value, lenet, chosen, access, access_many, attributes, walk, select),
)
