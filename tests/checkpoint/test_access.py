"""`CheckpointAccess`: the interface of a checkpoint for the package's own modules; it reads no value."""

from __future__ import annotations

import numpy as np
import pytest
from checkpoints import MIXED, checkpoint, counting
from opening import opened_and_traced, opened_over
from tracing import TracingSource

from lazyckpt.errors import ClosedCheckpoint
from lazyckpt.model.entry import Entry
from lazyckpt.model.tensor_runs import TensorRun
from lazyckpt.sources import BytesSource

DATA = checkpoint(MIXED)
NAMES = list(MIXED)


@pytest.fixture
def ckpt():
    """A checkpoint with values of all kinds."""
    return opened_over(BytesSource(DATA))


def test_a_name_has_a_value_in_memory_or_an_entry():
    """The edited value comes first, else the entry; nothing is read or created."""
    source = TracingSource(DATA)
    ckpt = opened_and_traced(source)
    ckpt["step"] = "done"
    ckpt["new"] = 1
    del ckpt["mask"]
    found = ckpt._access.value_or_entry

    assert (found("step"), found("new"), found("note")) == ("done", 1, ckpt.entry("note"))
    assert ckpt._access.assigned() == {"step": "done", "new": 1}
    with pytest.raises(KeyError):
        found("mask")
    assert source.reads == []


def test_a_walk_gives_what_each_name_gives(ckpt):
    """A walk gives the same as looking up each name, in order, also after edits, removals and reads."""
    ckpt["note"], ckpt["table"]
    ckpt["step"] = "done"
    ckpt["fc.weight"].set_data(np.ones(3))
    del ckpt["mask"]
    ckpt["mask"] = 1
    access = ckpt._access

    assert [name for name, _ in access.iter_entries()] == list(ckpt)
    assert [value for _, value in access.iter_entries()] == [access.value_or_entry(name) for name in ckpt]


def test_only_what_differs_from_the_file_is_edited(ckpt):
    """Strings and maps that were only read are not edited; a parameter after `set_data` is, unless it was removed."""
    ckpt["note"], ckpt["table"]
    ckpt["step"] = "done"
    ckpt["fc.weight"].set_data(np.ones(3))
    ckpt["conv1.bias"].set_data(np.ones(3))
    del ckpt["conv1.bias"]
    walked = dict(ckpt._access.iter_edited())

    assert list(ckpt._access.edited()) == ["fc.weight", "step"]
    assert [name for name, value in walked.items() if not isinstance(value, Entry)] == [
        name for name in NAMES if name in {"fc.weight", "step"}
    ]


def test_a_position_is_the_ordinal_in_the_file(ckpt):
    """Removed and added names have no position."""
    del ckpt["mask"]
    ckpt["new"] = 1
    positions = {name: ckpt._access.position(name) for name in [*NAMES, "new"]}

    assert positions == {name: None if name == "mask" else number for number, name in enumerate(NAMES)} | {"new": None}


@pytest.mark.parametrize(
    "edit",
    [
        lambda ckpt: ckpt.update(new=1),
        lambda ckpt: ckpt.pop("mask"),
        lambda ckpt: ckpt.update(step="done"),
        lambda ckpt: ckpt["fc.weight"].set_data(np.ones(3)),
        lambda ckpt: ckpt.select("fc")["fc.weight"].set_data(np.ones(3)),
        lambda ckpt: ckpt.clear(),
    ],
    ids=["added", "removed", "replaced", "set", "set in a view", "cleared"],
)
def test_any_edit_is_noticed(edit, ckpt):
    """Edits are detected, so that whole files are not compared as if they were unedited."""
    ckpt["note"], ckpt["fc.weight"]
    before = ckpt._access.is_unedited
    edit(ckpt)

    assert (before, ckpt._access.is_unedited) == (True, False)


def test_small_neighbours_of_an_unedited_file_come_as_runs():
    """With edits each tensor comes by itself, and the names are the same."""
    values = {f"layers.{number}.bias": counting((3,)) for number in range(20)}
    ckpt = opened_over(BytesSource(checkpoint(values)))
    runs = list(ckpt._access.iter_runs())
    names = [inner for name, found in runs for inner in (found.names if isinstance(found, TensorRun) else [name])]
    ckpt["new"] = 1

    assert any(isinstance(found, TensorRun) for _, found in runs)
    assert names == list(values)
    assert [name for name, _ in ckpt._access.iter_runs()] == [*values, "new"]


def test_pages_are_dropped_up_to_the_end_of_the_file():
    """Pages are dropped up to the end of the file or a given one; returned arrays stay valid."""
    dropped = []
    source = BytesSource(DATA)
    source.drop_pages = lambda *extent: dropped.append(extent)
    access = opened_over(source)._access
    access.drop_pages()
    access.drop_pages(10, 30)

    assert dropped == [(0, len(DATA)), (10, 20)]


@pytest.mark.parametrize("use", ["iter_entries", "iter_edited", "iter_runs"])
def test_a_closed_checkpoint_is_not_walked(use, ckpt):
    """The error says that the checkpoint was closed."""
    ckpt.close()

    with pytest.raises(ClosedCheckpoint):
        list(getattr(ckpt._access, use)())
