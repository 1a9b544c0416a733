"""Public docstrings describe arguments, results, errors and costs."""

from __future__ import annotations

import ast
import doctest
import importlib.resources
import inspect
import re
import textwrap
import types

import pytest

import lazyckpt

COSTS = re.compile(
    r"\bCosts?:|\bRaises, Cost:|[Rr]eads? nothing|[Rr]eads no (?:value|payload)|no (?:value|payload) is read",
    re.IGNORECASE,
)
FUNCTIONS = {
    name: thing for name in lazyckpt.__all__ if isinstance(thing := getattr(lazyckpt, name), types.FunctionType)
}
CLASSES = {name: thing for name in lazyckpt.__all__ if isinstance(thing := getattr(lazyckpt, name), type)}
# Users call the methods of these classes, and lazyckpt their constructors.
MEMBERS = {
    f"{name}.{member}": value
    for name, thing in CLASSES.items()
    for kind in reversed(thing.__mro__)
    if kind.__module__.startswith("lazyckpt")
    for member, value in vars(kind).items()
    if not member.startswith("_") and isinstance(value, (types.FunctionType, property))
}
METHODS = {name: value for name, value in MEMBERS.items() if isinstance(value, types.FunctionType)}
PROPERTIES = {name: value for name, value in MEMBERS.items() if isinstance(value, property)}
CALLABLES = {**FUNCTIONS, **METHODS}


def section(text, title):
    """The text of a section of a docstring, or an empty string."""
    found = re.search(rf"^{title}[^\n]*:\s*\n((?: +\S.*\n|\n)*)", inspect.cleandoc(text) + "\n", re.MULTILINE)
    return found[1] if found else ""


def arguments(function):
    """The names of the arguments of a function, without `self`."""
    return [name for name in inspect.signature(function).parameters if name != "self"]


def raised(function):
    """The names of the exceptions that the body of a function raises."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    return {call.func.id for call in calls if isinstance(call.func, ast.Name) and call.func.id[0].isupper()}


def said(name):
    """The classes named in the `Raises` section of a docstring, with their subclasses."""
    words = set(re.findall(r"\w+", section(CALLABLES[name].__doc__, "Raises")))
    errors = vars(lazyckpt.errors)
    return words | {kind for kind, error in errors.items() if isinstance(error, type) and _bases(error) & words}


def _bases(error):
    return {base.__name__ for base in error.__mro__[1:-2]}


def test_there_is_something_to_look_at():
    """The collection includes functions, methods (also inherited ones) and properties."""
    assert {"load_checkpoint", "Checkpoint.load", "Checkpoint.entry", "Parameter.asnumpy"} <= set(CALLABLES)
    assert {"Checkpoint.path", "Parameter.shape", "Index.path"} <= set(PROPERTIES)


@pytest.mark.parametrize("name", CALLABLES)
def test_every_argument_is_described(name):
    """`Args` lists every argument by name, in the order of the signature."""
    described = re.findall(r"^ {4}(\w+):", section(CALLABLES[name].__doc__, "Args"), re.MULTILINE)

    assert described == arguments(CALLABLES[name])


@pytest.mark.parametrize("name", [name for name in CALLABLES if arguments(CALLABLES[name])])
def test_what_comes_back_is_described(name):
    """A function with arguments and a result has a `Returns` section."""
    gives = inspect.signature(CALLABLES[name]).return_annotation not in ("None", None)

    returns = section(CALLABLES[name].__doc__, "Returns")
    assert bool(returns) == gives
    assert ": " not in returns.partition("\n")[0]  # mkdocstrings would show the text before a colon as a type


@pytest.mark.parametrize("name", CALLABLES)
def test_every_error_is_described(name):
    """`Raises` lists every exception in the body of a function, or a base class of it."""
    assert raised(CALLABLES[name]) - said(name) == set()


@pytest.mark.parametrize("name", {**CALLABLES, **PROPERTIES})
def test_every_cost_is_told(name):
    """Every docstring states the cost, or that nothing is read."""
    assert COSTS.search(inspect.cleandoc({**CALLABLES, **PROPERTIES}[name].__doc__).replace("\n", " "))


@pytest.mark.parametrize("name", CLASSES)
def test_every_attribute_is_described(name):
    """`Attributes` lists the fields of named tuples and the public slots of other classes."""
    fields = [*getattr(CLASSES[name], "_fields", ()), *(one for one in vars(CLASSES[name]).get("__slots__", ()))]
    described = set(re.findall(r"^ {4}(\w+):", section(CLASSES[name].__doc__, "Attributes"), re.MULTILINE))

    assert {field for field in fields if not field.startswith("_")} <= described


EXAMPLES = {
    test.name: test
    for name, thing in {**FUNCTIONS, **CLASSES}.items()
    for kind in ([thing] if isinstance(thing, types.FunctionType) else thing.__mro__)
    if kind.__module__.startswith("lazyckpt")
    for test in doctest.DocTestFinder(exclude_empty=True).find(kind, name, globs={"lazyckpt": lazyckpt})
    if test.examples
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_true(name, tmp_path, monkeypatch):
    """In a folder with the demo's checkpoint and a second one, what is typed gives what is shown."""
    demo = (importlib.resources.files("lazyckpt") / "demo_data" / "LeNet5-1_32.ckpt").read_bytes()
    (tmp_path / "LeNet5-1_32.ckpt").write_bytes(demo)
    monkeypatch.chdir(tmp_path)

    assert doctest.DocTestRunner().run(EXAMPLES[name]).failed == 0


def test_what_is_used_first_has_an_example():
    """What opens, chooses, reads, writes and compares."""
    assert {"save_checkpoint", "diff", "match", "verify", "diagnose", "Checkpoint", "Parameter"} <= {
        name.partition(".")[0] for name in EXAMPLES
    }


@pytest.mark.parametrize("name", [name for name, thing in vars(lazyckpt.errors).items() if isinstance(thing, type)])
def test_every_error_says_what_it_is_for(name):
    """Every error class has its own docstring, with a whole sentence."""
    text = vars(getattr(lazyckpt.errors, name)).get("__doc__") or ""

    assert re.match(r"[A-Z`].*[.)]", text)
