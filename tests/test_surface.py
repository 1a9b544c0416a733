"""The public names of lazyckpt, the cost of importing it, and MindSpore's signatures."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import types

from checkpoints import checkpoint, counting
from mindspore_results import GOLDEN

import lazyckpt

HEAVY = (
    "cryptography",
    "dask",
    "distributed",
    "fsspec",
    "google.protobuf",
    "matplotlib",
    "mindspore",
    "ml_dtypes",
    "pandas",
    "platformdirs",
    "rich",
    "torch",
    "typer",
)
REQUIRED = inspect.Parameter.empty


def public(thing):
    """The public names of a module or class, and their values."""
    return {name: value for name, value in vars(thing).items() if not name.startswith("_")}


def test_all_is_what_is_public():
    """`__all__` is sorted and lists exactly the names that `dir` shows and that can be imported."""
    offered = {name for name, value in public(lazyckpt).items() if not isinstance(value, types.ModuleType)}
    wanted = set(lazyckpt.__all__)

    assert sorted(wanted, key=lambda name: (name[0].islower(), name)) == lazyckpt.__all__
    assert [name for name in wanted if not hasattr(lazyckpt, name)] == []
    assert wanted <= set(dir(lazyckpt))
    assert offered - wanted <= {"TYPE_CHECKING", "Any"}
    assert not hasattr(lazyckpt, "no_such_name")


def test_importing_a_name_is_importing_the_thing():
    """`from lazyckpt import *` gives the classes and functions themselves."""
    session = {}
    exec("from lazyckpt import *", session)

    assert {name: session[name] for name in lazyckpt.__all__} == {
        name: getattr(lazyckpt, name) for name in lazyckpt.__all__
    }


def test_every_public_name_is_documented():
    """Each public class, function, method and property has a docstring."""
    things = {name: getattr(lazyckpt, name) for name in lazyckpt.__all__}
    members = {
        f"{name}.{member}": value
        for name, thing in things.items()
        for member, value in public(thing).items()
        if isinstance(value, (types.FunctionType, property, type)) and isinstance(thing, (type, types.ModuleType))
    }

    assert [name for name, thing in {**things, **members}.items() if not (thing.__doc__ or "").strip()] == []


def test_every_error_is_a_lazyckpt_error():
    """`except lazyckpt.errors.LazyCkptError` catches every deliberate error."""
    errors = [value for value in public(lazyckpt.errors).values() if isinstance(value, type)]

    assert [error for error in errors if not issubclass(error, lazyckpt.errors.LazyCkptError)] == []


def imported_by(code):
    """The modules that a fresh interpreter has imported after running some code."""
    code = f"import json, sys, lazyckpt; {code}; print(json.dumps(sorted(sys.modules)))"
    return set(json.loads(subprocess.check_output([sys.executable, "-c", code], encoding="utf-8")))


def test_importing_lazyckpt_is_cheap():
    """The import alone loads no submodule."""
    loaded = imported_by("pass")

    assert loaded & {*HEAVY, "lmdb", "numpy"} == set()
    assert {name for name in loaded if name.startswith("lazyckpt")} == {"lazyckpt"}


def test_what_opens_checkpoints_brings_in_little():
    """The logger, OpenSSL, LMDB and other formats are imported only on use."""
    loaded = imported_by("lazyckpt.load_checkpoint") - imported_by("import numpy")  # numpy 1 brings hashlib itself

    assert loaded & {"logging", "hashlib", "shutil", "cryptography", "lmdb", "lazyckpt.formats.safetensors"} == set()


def test_protobuf_is_imported_only_where_a_strategy_is_read(tmp_path):
    """Checkpoints are scanned, indexed, read and written without protobuf; only a protobuf strategy needs it."""
    path = str(tmp_path / "x.ckpt")
    (tmp_path / "x.ckpt").write_bytes(checkpoint({"w": counting((2, 3))}))
    ordinary = (
        f"c = lazyckpt.load_checkpoint({path!r}); c['w'].asnumpy(); c.save({str(tmp_path / 'y.ckpt')!r}); c.close()"
    )
    folder = str(GOLDEN / "sharded" / "mixed_2x4")
    sharded = "lazyckpt.open_sharded({0!r}, {0!r} + '/strategy.{1}', index='memory').close()"

    assert {name for name in imported_by(ordinary) if name.startswith("google")} == set()
    assert "google.protobuf" not in imported_by(sharded.format(folder, "json"))
    assert "google.protobuf" in imported_by(sharded.format(folder, "ckpt"))


def test_asking_for_every_name_is_cheap():
    """The public names import no framework, no command line, and no rarely used module."""
    assert imported_by("[getattr(lazyckpt, name) for name in lazyckpt.__all__]") & set(HEAVY) == set()


def split(function):
    """The positional parameters with their defaults, and the keyword-only ones."""
    parameters = inspect.signature(function).parameters.values()
    by_position = {one.name: one.default for one in parameters if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return by_position, {one.name: one.default for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}


def test_load_checkpoint_takes_mindspores_arguments_in_mindspores_order():
    """Calls written for MindSpore have the same meaning. Additional arguments are keyword-only."""
    by_position, named = split(lazyckpt.load_checkpoint)

    assert list(by_position.items()) == [
        ("ckpt_file_name", REQUIRED),
        ("net", None),
        ("strict_load", False),
        ("filter_prefix", None),
        ("dec_key", None),
        ("dec_mode", "AES-GCM"),
        ("specify_prefix", None),
        ("choice_func", None),
        ("crc_check", False),
        ("remove_redundancy", False),
        ("format", "ckpt"),
    ]
    assert named["index"] == "auto"
    assert REQUIRED not in named.values()


def test_build_index_has_its_options_by_name():
    """Only the file and its key may be positional."""
    by_position, named = split(lazyckpt.build_index)

    assert list(by_position.items()) == [("path", REQUIRED), ("dec_key", None), ("dec_mode", "AES-GCM")]
    assert {"index_path": None, "force": False, "digest": None, "progress": None}.items() <= named.items()
