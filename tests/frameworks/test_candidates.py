"""The checkpoint's side of binding: candidates by name, without their values, and values in file order."""

from __future__ import annotations

import logging
from collections import OrderedDict, UserDict

import numpy as np
import pytest
from checkpoints import LAYERS, MIXED, array_value, checkpoint, counting, tensor_value
from opening import opened_and_traced, opened_over
from safetensors_files import file_of
from tracing import TracingSource

import lazyckpt
from lazyckpt.errors import ArgumentTypeError
from lazyckpt.frameworks.binding import Candidate, Pair, Plan, Target
from lazyckpt.frameworks.candidates import (
    Candidates,
    candidate_of,
    check_values,
    dtype_named,
    in_file_order,
    report_aliases,
)
from lazyckpt.model.dtypes import DTYPES
from lazyckpt.model.entry import MAP, STRING, TENSOR
from lazyckpt.parameter import Parameter
from lazyckpt.sources import BytesSource

MIB = 2**20
KINDS = {"note": STRING, "empty": STRING, "table": MAP}


class Theirs:
    """The attributes of a MindSpore Parameter that are used."""

    shape = (np.int64(2), 3)
    dtype = "Float16"

    def asnumpy(self):
        """Must not be called."""
        raise AssertionError


class RecordingSource(BytesSource):
    """A stand-in for a mapped file that records released pages."""

    def __init__(self, data):
        super().__init__(data)
        self.released = []

    def drop_pages(self, offset, length):
        """See `Source.drop_pages`."""
        self.released.append((offset, length))


def pairs_of(ckpt, names):
    """Pairs for these names of a checkpoint, in this order."""
    candidates = Candidates(ckpt)
    return [
        Pair(Target(name, candidates[name].shape, candidates[name].dtype), name, candidates[name]) for name in names
    ]


def test_a_checkpoint_offers_what_its_index_holds():
    """Kinds, shapes and dtypes come in file order, without reading a byte."""
    source = TracingSource(checkpoint(MIXED))
    ckpt = opened_and_traced(source)
    candidates = Candidates(ckpt)

    assert len(candidates) == len(MIXED)
    assert [(name, candidate[:3]) for name, candidate in candidates.items()] == [
        (name, (TENSOR, value.shape, value.dtype.name.capitalize()) if name in LAYERS else (KINDS[name], (), ""))
        for name, value in MIXED.items()
    ]
    assert [candidate.offset for candidate in candidates.values()] == [ckpt.entry(name).start for name in MIXED]
    assert source.reads == []


def test_names_that_are_not_there_offer_nothing():
    """Absent names are found neither by look-up nor by `in`."""
    candidates = Candidates(opened_over(BytesSource(checkpoint(LAYERS))))

    assert (candidates.get("fc"), "fc" in candidates, "fc.weight" in candidates) == (None, False, True)


def test_edits_are_offered():
    """Assigned, edited, renamed and removed values count; strings that were read are still strings."""
    ckpt = opened_over(BytesSource(checkpoint(MIXED)))
    assert ckpt["note"] == MIXED["note"]
    ckpt["step"] = np.zeros((2, 3), "uint8")
    ckpt["conv1.bias"].set_data(counting((4,), "int32"))
    ckpt["moved"] = ckpt.pop("fc.weight")
    del ckpt["mask"]
    candidates = Candidates(ckpt)

    assert list(candidates) == ["conv1.weight", "conv1.bias", "step", "note", "empty", "table", "moved"]
    assert candidates["note"].kind == STRING
    assert candidates["step"] == Candidate(TENSOR, (2, 3), "UInt8")
    assert candidates["conv1.bias"] == Candidate(TENSOR, (4,), "Int32")
    assert candidates["moved"] == Candidate(TENSOR, (10, 84), "Float32")


def test_a_dict_may_hold_values_of_any_kind():
    """Lazy parameters, MindSpore's, arrays, strings and lists are distinguished without being read."""
    source = TracingSource(checkpoint(LAYERS))
    values = {
        **opened_and_traced(source),
        "theirs": Theirs(),
        "array": counting((3,), "uint16"),
        "text": "text",
        "map": [np.zeros(1)] * 3,
    }
    candidates = Candidates(values)

    assert [candidates[name] for name in ("conv1.weight", "theirs", "array", "text", "map")] == [
        Candidate(TENSOR, (6, 1, 5, 5), "Float32"),
        Candidate(TENSOR, (2, 3), "Float16"),
        Candidate(TENSOR, (3,), "UInt16"),
        Candidate(STRING),
        Candidate(MAP),
    ]
    assert source.reads == []


@pytest.mark.parametrize("value", [1, None, 1.5, b"w", {"w": 1}, np.zeros(2, "complex128"), np.array(["w"])])
def test_what_can_never_be_bound_is_refused(value):
    """Numbers, bytes, and arrays without a MindSpore dtype are refused."""
    with pytest.raises(ArgumentTypeError):
        candidate_of(value)


@pytest.mark.parametrize("values", [{}, OrderedDict(w="text"), {"w": "text", "m": [1]}])
def test_dicts_can_be_bound(values):
    """Dicts of a subclass and empty dicts can be bound."""
    assert check_values(values, (str, list)) is None


@pytest.mark.parametrize("values", [None, [], "w", UserDict(w="text"), [("w", "text")]])
def test_nothing_else_can_be_bound(values):
    """As with MindSpore, a mapping that is not a dict is refused."""
    with pytest.raises(ArgumentTypeError, match="should be a dict or a Checkpoint"):
        check_values(values, (str,))


@pytest.mark.parametrize("values", [{1: "text"}, {"w": 1}, {"v": "text", "w": None}])
def test_names_and_values_must_have_the_right_types(values):
    """The message names both types."""
    with pytest.raises(ArgumentTypeError, match=r"should be a 'str' and 'Parameter', but got <class"):
        check_values(values, (str,))


def test_of_a_checkpoint_only_the_edits_are_checked():
    """A file's own values always have valid types and are not checked; assigned ones may not."""
    source = TracingSource(checkpoint(MIXED))
    ckpt = opened_and_traced(source)

    assert check_values(ckpt, (Parameter,)) is None
    assert source.reads == []
    ckpt["step"] = 5
    with pytest.raises(ArgumentTypeError, match=r"<class 'int'>"):
        check_values(ckpt, (Parameter,))


def test_values_come_in_file_order():
    """Values come in file order for any order of the net; values in memory come first."""
    ckpt = opened_over(BytesSource(checkpoint(LAYERS)))
    ckpt["step"] = counting((2,))
    ckpt["new"] = counting((3,))
    names = ["mask", "new", "fc.weight", "step", "conv1.weight", "conv1.bias"]
    found = list(in_file_order(pairs_of(ckpt, names), ckpt))

    assert [pair.source for pair, _ in found] == ["new", "step", "conv1.weight", "conv1.bias", "fc.weight", "mask"]
    assert [value is ckpt[pair.source] for pair, value in found] == [True] * 6


def test_values_of_a_dict_come_in_the_order_of_the_pairs():
    """A dict has no file order."""
    values = {name: counting((2,)) for name in "abc"}
    found = list(in_file_order(pairs_of(values, "cab"), values))

    assert [pair.source for pair, _ in found] == ["c", "a", "b"]
    assert [value is values[pair.source] for pair, value in found] == [True] * 3


def test_what_is_behind_is_let_go_of():
    """After each mebibyte the passed pages are released, at the end all; pages ahead never are."""
    lengths = {"a": MIB // 2, "b": MIB, "c": 16, "d": 2 * MIB, "e": 5}
    source = RecordingSource(b"".join(array_value(name, np.zeros(size, "uint8")) for name, size in lengths.items()))
    ckpt = opened_over(source)
    seen = []
    for pair, _ in in_file_order(pairs_of(ckpt, lengths), ckpt):
        assert sum(length for _, length in source.released) <= pair.candidate.offset
        seen.append(pair.source)
    starts = [ckpt.entry(name).start for name in ("c", "e")]

    assert seen == list(lengths)
    assert source.released == [
        (0, starts[0]),
        (starts[0], starts[1] - starts[0]),
        (starts[1], source.size - starts[1]),
    ]


def test_views_outlive_the_pages(tmp_path):
    """A view of a mapped file is unchanged after its pages were released."""
    path = tmp_path / "a.ckpt"
    array = counting((MIB,), "int32")
    path.write_bytes(checkpoint({"a": array, "b": array}))
    with lazyckpt.load_checkpoint(str(path)) as ckpt:
        view = ckpt["a"].asnumpy()
        for _, value in in_file_order(pairs_of(ckpt, "ab"), ckpt):
            value.asnumpy(copy=True)

        assert np.array_equal(view, array)


def test_every_dtype_has_a_numpy_dtype():
    """Dtypes are found by MindSpore's name; an unknown name raises KeyError."""
    assert {name: dtype_named(name) for name in DTYPES} == {name: dtype.numpy for name, dtype in DTYPES.items()}
    with pytest.raises(KeyError):
        dtype_named("Complex128")


def test_looking_into_offers_logs_nothing(caplog):
    """Only binding logs warnings."""
    caplog.set_level(logging.DEBUG)
    dict(Candidates(opened_over(BytesSource(tensor_value("w", [2], "Int4", b"\0\1")))))

    assert caplog.records == []


@pytest.mark.parametrize(
    ("metadata", "aliases"),
    [
        ({"lm_head.weight": "embed.weight", "format": "pt"}, {"lm_head.weight": "embed.weight"}),
        ({"w": "embed.weight"}, {}),
        ({"lm_head.weight": "other"}, {}),
        (None, {}),
    ],
)
def test_metadata_name_aliases_of_values(metadata, aliases, tmp_path):
    """As `safetensors.torch.save_model` writes them: the name that was left out, and the one that was kept."""
    path = tmp_path / "net.safetensors"
    path.write_bytes(file_of({"embed.weight": counting((3, 2)), "w": counting((2,))}, metadata))
    with lazyckpt.load_checkpoint(path, format="safetensors", index="memory") as ckpt:
        assert Candidates(ckpt).aliases() == aliases
        assert Candidates(dict(ckpt)).aliases() == {}


def test_aliases_that_are_used_are_logged(caplog):
    """One line each."""
    with caplog.at_level(logging.INFO):
        report_aliases(Plan((), (), (), (), (), (), aliased=(("head", "embed"),)))

    assert "head takes the value of embed" in caplog.text
