"""The tools keep an order, as the package does: their imports form no circle."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

TOOLS = Path(__file__).parents[2] / "tools"
MODULES = {
    ".".join(file.relative_to(TOOLS).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(TOOLS.rglob("*.py"))
}


def imported(module):
    """The tools' own modules that a module imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return found & MODULES.keys()


def test_no_tools_import_each_other_in_a_circle():
    """There is an order in which all modules under tools/ could be read, deferred imports counted."""
    order = list(graphlib.TopologicalSorter({module: imported(module) for module in MODULES}).static_order())

    assert set(order) == set(MODULES)


def test_modules_of_the_tools_open_with_what_they_are_about():
    """The first thing in each module under tools/ is a docstring."""
    trees = {module: ast.parse(file.read_text(encoding="utf-8")) for module, file in MODULES.items()}

    assert [module for module, tree in trees.items() if not ast.get_docstring(tree)] == []
