"""Binding without any framework: which adapter is asked, in which order, and that none is imported."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest
from checkpoints import LAYERS, checkpoint

import lazyckpt
from lazyckpt import frameworks
from lazyckpt.errors import ArgumentTypeError, ArgumentValueError, NetMismatch
from lazyckpt.frameworks.binding import Target
from lazyckpt.frameworks.nets import load_param_into_net, targets_of


class Cell:
    """Replaces a MindSpore net."""


class Module:
    """Replaces a torch module."""


@pytest.fixture
def without(monkeypatch):
    """A program that has imported no framework."""
    for name in ("mindspore", "torch"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def asked(without, monkeypatch):
    """A program that has imported both frameworks; returns the calls to their adapters, in order."""
    calls = []

    def check_arguments(net, values):
        calls.append(("check", net, values))
        if not isinstance(net, Cell):
            raise ArgumentTypeError("should be a Cell")

    def load(net, values, strict, redundancy):
        calls.append(("load", net, values, strict, redundancy))
        return ["missing"], ["unused"]

    mindspore, torch = types.ModuleType("mindspore leaf"), types.ModuleType("torch leaf")
    mindspore.check_arguments, mindspore.load = check_arguments, load
    mindspore.is_cell, torch.is_module = (lambda net: isinstance(net, Cell)), (lambda net: isinstance(net, Module))
    mindspore.targets = lambda net: (Target("cell", (), "Bool"),)
    torch.targets = lambda net: (Target("module", (), "Bool"),)
    for name, leaf in (("mindspore", mindspore), ("torch", torch)):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        monkeypatch.setattr(frameworks, name, leaf, raising=False)
    return calls


def test_without_mindspore_nothing_is_a_net(without):
    """A program that has not imported MindSpore cannot have a Cell: the error says what is needed."""
    with pytest.raises(ArgumentTypeError, match=r"the argument 'net' should be a Cell, but got <class 'int'>"):
        load_param_into_net(5, {})
    assert targets_of(object()) is None


def test_no_framework_is_imported_for_asking(tmp_path):
    """Neither binding an object that is not a net nor matching names imports MindSpore or torch."""
    (tmp_path / "a.ckpt").write_bytes(checkpoint(LAYERS))
    code = f"""
import sys, lazyckpt
try:
    lazyckpt.load_checkpoint({str(tmp_path / "a.ckpt")!r}, net=5)
except TypeError as error:
    print(type(error).__name__)
with lazyckpt.load_checkpoint({str(tmp_path / "a.ckpt")!r}) as ckpt:
    print(lazyckpt.match(list(ckpt), ckpt).fits)
print({{"mindspore", "torch"}} & {{*sys.modules}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split("\n") == ["ArgumentTypeError", "True", "set()", ""]


def test_the_leaf_is_asked_to_load(asked):
    """Net and mapping are checked first, then MindSpore's adapter gets all arguments unchanged."""
    net, values = Cell(), {}

    assert load_param_into_net(net, values, True, remove_redundancy=True) == (["missing"], ["unused"])
    assert asked == [("check", net, values), ("load", net, values, True, True)]


def test_by_default_loading_is_loose(asked):
    """By default loading is not strict, and redundancy is not removed."""
    load_param_into_net(Cell(), {})

    assert asked[1][3:] == (False, False)


@pytest.mark.parametrize("flag", [1, 0, None, "True"])
def test_flags_are_bools(asked, flag):
    """As with MindSpore, `strict_load` raises TypeError and `remove_redundancy` ValueError; nothing is loaded."""
    with pytest.raises(ArgumentTypeError, match="must be a bool, but got"):
        load_param_into_net(Cell(), {}, flag)
    with pytest.raises(ArgumentValueError, match="'remove_redundancy' must be bool"):
        load_param_into_net(Cell(), {}, remove_redundancy=flag)
    assert [call[0] for call in asked] == ["check", "check"]


def test_the_net_is_judged_before_the_flags(asked):
    """The first fault in MindSpore's order is raised."""
    with pytest.raises(ArgumentTypeError, match="Cell"):
        load_param_into_net(Module(), {}, 5, 5)


@pytest.mark.parametrize(("net", "found"), [(Cell(), "cell"), (Module(), "module")])
def test_the_targets_are_those_of_the_framework(asked, net, found):
    """Nets of either framework have parameters; other objects are not nets."""
    assert [target.name for target in targets_of(net)] == [found]
    assert targets_of(object()) is None


def test_load_checkpoint_binds_the_net_it_is_given(asked, tmp_path):
    """`net`, `strict_load` and `remove_redundancy` are passed on with the mapping that is returned."""
    (tmp_path / "a.ckpt").write_bytes(checkpoint(LAYERS))
    net = Cell()
    with lazyckpt.load_checkpoint(str(tmp_path / "a.ckpt"), net, True, remove_redundancy=True) as ckpt:
        assert asked[1][1:] == (net, ckpt, True, True)
        assert list(ckpt) == list(LAYERS)


def test_the_net_is_looked_at_last(asked, tmp_path):
    """A missing file is reported before an invalid net."""
    with pytest.raises(lazyckpt.errors.MissingFile):
        lazyckpt.load_checkpoint(str(tmp_path / "a.ckpt"), net=5)
    assert asked == []


def test_a_checkpoint_whose_net_is_refused_is_closed(asked, tmp_path, monkeypatch):
    """The file is closed, even while the caller keeps the error."""
    (tmp_path / "a.ckpt").write_bytes(checkpoint(LAYERS))
    given = []

    def load(net, values, strict, redundancy):
        given.append(values)
        raise NetMismatch("no")

    monkeypatch.setattr(frameworks.mindspore, "load", load)
    with pytest.raises(NetMismatch, match="no"):
        lazyckpt.load_checkpoint(str(tmp_path / "a.ckpt"), Cell())
    assert repr(given[0]).startswith("<closed Checkpoint")
