"""The order of the package: imports go one way, and each third-party package has its owners."""

from __future__ import annotations

import ast
import graphlib
import sys
from pathlib import Path

from rooms import LAYERS
from rooms import PACKAGE as ROOT

TESTS = Path(__file__).parent

# Who may import a package. numpy is everybody's.
OWNERS = {
    "cryptography": {"sources.encryption.cipher"},
    "dask": {"tensors.dask"},
    "distributed": {"tasks.cluster"},
    "fastparquet": {"references.parquet_writer"},
    "fsspec": {"references.parquet_writer", "sources.paths"},
    "google": {
        "formats.proto.checkpoint_pb2",
        "formats.proto.group_info_pb2",
        "formats.proto.reading",
        "formats.proto.strategy_pb2",
    },
    "kerchunk": {"references.parquet_writer"},
    "lmdb": {"index.write"},
    "pandas": {"statistics.table"},
    "platformdirs": {"index.locations"},
    "matplotlib": {"views.plots", "views.plot_accessor"},
    "mindspore": {"tensors.mindspore", "frameworks.mindspore"},
    "rich": {"cli.app", "cli.checking", "cli.indexing", "cli.viewing", "statistics.table", "views.text"},
    "torch": {"tensors.torch", "frameworks.torch"},
    "typer": {
        "cli",
        "cli.app",
        "cli.checking",
        "cli.comparing",
        "cli.converting",
        "cli.indexing",
        "cli.listing",
        "cli.matching",
        "cli.referencing",
        "cli.viewing",
    },
}
# Modules whose tests need the real framework.
BESIDE = {
    "frameworks.mindspore": "interop/mindspore/test_binding.py",
    "frameworks.torch": "interop/torch/test_torch.py",
    "references.parquet_writer": "interop/zarr/test_zarr.py",
    "sources.remote": "interop/remote/test_remote.py",
    "tasks.cluster": "interop/dask/test_cluster.py",
    "tensors.mindspore": "interop/mindspore/test_mindspore.py",
    "tensors.torch": "interop/torch/test_torch.py",
    "views.plot_accessor": "interop/notebook/test_plots.py",
    "views.plots": "interop/notebook/test_plots.py",
}
# Modules that import by a computed name: the public names, ml_dtypes, and the reader of a format, when asked for.
BY_NAME = {"", "model.dtypes", "formats"}
LONGEST = 500  # lines
MOST_AT_THE_TOP = 9  # files directly in the package: what users import, and the two commands


def name_of(file):
    """A module's name inside the package: `index.sidecar`, `index` for a folder's own, "" for the package's."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in MODULES.items()}


def imported(name):
    """The full names of all imports of a module, inside functions too."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif _is_import_call(node) and isinstance(node.args[0], ast.Constant):
            yield node.args[0].value


def _is_import_call(node):
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__"))


def inside(full):
    """The package's module with this full name, or None."""
    parts = full.split(".")
    if parts[0] != "lazyckpt":
        return None
    inner = ".".join(parts[1:])
    return inner if inner in MODULES else ".".join(parts[1:-1])


EDGES = {name: {inside(full) for full in imported(name)} - {None} for name in MODULES}


def rank(name):
    """The rank of a module's room in the order."""
    return LAYERS.index(name.partition(".")[0])


def test_every_module_has_a_place_in_the_order():
    """The order lists every room, and only existing rooms."""
    assert {name.partition(".")[0] for name in MODULES} <= set(LAYERS)


def test_imports_go_one_way():
    """A module imports from its own room and from rooms below, never from above."""
    upward = {(name, other) for name, others in EDGES.items() for other in others if rank(other) > rank(name)}

    assert upward == set()


def test_no_modules_import_each_other_in_a_circle():
    """Modules can be imported in some order, even with imports inside functions counted."""
    order = list(graphlib.TopologicalSorter(EDGES).static_order())

    assert set(order) == set(MODULES)


def test_each_third_party_package_has_its_owner():
    """Each third-party package is imported only by its owners."""
    used = {}
    for name in MODULES:
        for full in imported(name):
            package = full.partition(".")[0]
            if package not in {*sys.stdlib_module_names, "lazyckpt", "numpy"}:
                used.setdefault(package, set()).add(name)

    assert {package: names - OWNERS.get(package, set()) for package, names in used.items()} == {
        package: set() for package in used
    }


def test_only_the_dtype_table_imports_by_a_computed_name():
    """Only the dtype table, for ml_dtypes, imports by a computed name, which this file cannot see."""
    hidden = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if _is_import_call(node) and not isinstance(node.args[0], ast.Constant)
    }

    assert hidden == BY_NAME


def test_no_module_is_a_drawer():
    """No module has a catch-all name."""
    drawers = {"utils", "util", "helpers", "common", "misc", "core", "base_utils"}

    assert [name for name in MODULES if drawers & set(name.split("."))] == []


def test_modules_are_short():
    """A module that is too long to read in one sitting should be two."""
    lengths = {name: len(file.read_text(encoding="utf-8").splitlines()) for name, file in MODULES.items()}

    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_few_modules_stand_outside_the_rooms():
    """The package's own folder has few modules."""
    loose = [file.name for file in ROOT.glob("*.py")]

    assert len(loose) <= MOST_AT_THE_TOP, loose


def test_every_module_has_a_test_of_its_name():
    """Who changes a module knows where its claims stand; those about a framework stand beside that framework."""
    named = {
        name: TESTS.joinpath(*name.split(".")[:-1], f"test_{name.rpartition('.')[2]}.py")
        for name, file in MODULES.items()
        if file.stem not in {"__init__", "__main__"} and not name.endswith("_pb2")
    }
    named |= {name: TESTS / file for name, file in BESIDE.items()}

    assert [name for name, file in named.items() if not file.is_file()] == []


def test_every_module_opens_with_what_it_is_about():
    """Every module begins with a docstring."""
    generated = {name for name in MODULES if name.endswith("_pb2")}

    assert [name for name, tree in TREES.items() if not ast.get_docstring(tree) and name not in generated] == []
