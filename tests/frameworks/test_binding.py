"""The rules of binding: pairs, conversions, missing and refused parameters. They read no value."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from mindspore_binding import DTYPES, FLOATS, SIGNED, TABLE, TEXT, Refused, bind, nets_and_checkpoints

from lazyckpt.errors import NetMismatch
from lazyckpt.frameworks import binding
from lazyckpt.frameworks.binding import Candidate, Memory, Plan, Target, castable, plan, refuse
from lazyckpt.model import dtypes
from lazyckpt.model.entry import MAP, STRING, TENSOR

VECTOR = ((2,), "Float32")


def targets(net):
    """The parameters of a net given as name -> (shape, dtype)."""
    return [Target(name, *described) for name, described in net.items()]


def candidates(values):
    """The values of a checkpoint given as name -> (shape, dtype), `TEXT` or `TABLE`."""
    kinds = {TEXT: Candidate(STRING), TABLE: Candidate(MAP)}
    return {name: kinds.get(value) or Candidate(TENSOR, *value) for name, value in values.items()}


def vectors(*names):
    """Vectors of these names, for either side."""
    return dict.fromkeys(names, VECTOR)


def planned(net, values, strict=False):
    """The plan for such a net and such a checkpoint."""
    return plan(targets(net), candidates(values), strict)


def loads(what):
    """Parameter -> name of the value it takes."""
    return {pair.target.name: pair.source for pair in what.pairs}


def test_parameters_take_the_values_of_their_names():
    """Names match in any order; the pairs are in the net's order."""
    what = planned(vectors("c", "a", "b"), vectors("a", "b", "c"))

    assert [(pair.target.name, pair.source) for pair in what.pairs] == [("c", "c"), ("a", "a"), ("b", "b")]
    assert set(what[1:]) == {()}


def test_pairs_are_in_the_nets_order_however_they_were_found():
    """Values found behind prefixes, in several rounds, keep their position in the net's order."""
    what = planned(vectors("a", "b", "c", "d"), vectors("d", "y.a", "x.c", "b"))

    assert [pair.source for pair in what.pairs] == ["y.a", "b", "x.c", "d"]


def test_missing_is_in_the_nets_order_and_unused_in_the_checkpoints():
    """Each list keeps the order of its own side."""
    what = planned(vectors("z", "a", "m"), vectors("q", "b", "a1"))

    assert (what.missing, what.unused) == (("z", "a", "m"), ("q", "b", "a1"))


def test_an_empty_net_needs_nothing_and_an_empty_checkpoint_gives_nothing():
    """Either side may be empty."""
    assert planned({}, vectors("w"))[:3] == ((), (), ("w",))
    assert planned(vectors("w"), {})[:3] == ((), ("w",), ())
    assert planned({}, {}) == Plan(*((),) * 6)


def test_accumulated_gradients_are_not_missed():
    """Missing parameters whose names begin with `accu_grads` are not reported; present ones are loaded."""
    net = vectors("accu_grads.w", "w")

    assert planned(net, vectors("w")).missing == ()
    assert loads(planned(net, vectors("w", "accu_grads.w"))) == {"accu_grads.w": "accu_grads.w", "w": "w"}
    assert loads(planned(net, vectors("w", "x.accu_grads.w"))) == {"w": "w"}


def test_what_may_be_missing_is_not_missed():
    """Optional parameters are not reported as missing, and no prefix is tried for them."""
    what = plan([Target("w", *VECTOR, may_miss=True)], candidates(vectors("x.w")))

    assert what[:3] == ((), (), ("x.w",))


@pytest.mark.parametrize("value", [TEXT, TABLE])
def test_strings_and_maps_are_passed_over(value):
    """A parameter matched by a string or a map is neither loaded nor missing, and the value stays unused."""
    what = planned(vectors("w", "v"), {"w": value, "v": VECTOR})

    assert (loads(what), what.missing, what.unused, what.passed_over) == ({"v": "v"}, (), ("w",), ("w",))


def test_maps_go_to_map_parameters():
    """As in MindSpore, a map parameter takes a map of any shape and dtype, which still counts as unused."""
    what = plan(
        [Target("m", (2, 2), "Float32", is_map=True), Target("w", *VECTOR)], candidates({"m": TABLE, "w": VECTOR})
    )

    assert (loads(what), what.missing, what.unused) == ({"m": "m", "w": "w"}, (), ("m",))


@pytest.mark.parametrize("value", [TEXT, VECTOR])
def test_map_parameters_take_nothing_else(value):
    """A map parameter matched by a tensor or a string is passed over."""
    what = plan([Target("m", *VECTOR, is_map=True)], candidates({"m": value}))

    assert what == Plan((), (), ("m",), ("m",), (), ())


def test_no_prefix_is_found_for_map_parameters():
    """A map parameter takes no value behind a prefix, and does not keep others from theirs."""
    net = [Target("m", *VECTOR, is_map=True), Target("w", *VECTOR)]
    what = plan(net, candidates(vectors("x.m", "x.w")))

    assert (loads(what), what.missing, what.prefixes) == ({"w": "x.w"}, ("m",), ("x.",))


def test_the_dtypes_that_are_converted():
    """Loosely, floats convert to floats and signed integers to signed integers; nothing else does."""
    assert set(dtypes.IN_CKPT) == set(DTYPES)
    for mine, theirs in itertools.product([*DTYPES, "Complex64"], repeat=2):
        same_family = any({mine, theirs} <= set(family) for family in (FLOATS, SIGNED))
        what = planned({"w": ((2,), mine)}, {"w": ((2,), theirs)})

        assert castable(mine, theirs) == same_family
        assert [pair.casts for pair in what.pairs] == ([mine != theirs] if same_family or mine == theirs else [])
        assert len(what.refusals) == 1 - len(what.pairs)


def test_nothing_is_converted_strictly():
    """Strictly, different dtypes are refused; if they could be converted, the message says how."""
    for mine, theirs in itertools.product(DTYPES, repeat=2):
        what = planned({"w": ((2,), mine)}, {"w": ((2,), theirs)}, strict=True)
        hints = ["strict_load=False" in refusal.reason for refusal in what.refusals]

        assert [pair.casts for pair in what.pairs] == ([False] if mine == theirs else [])
        assert hints == ([] if mine == theirs else [castable(mine, theirs)])


SHAPES = {
    "equal": ((2, 3), (2, 3), "loads"),
    "a one at the end": ((2, 3), (2, 3, 1), "squeezes"),
    "ones at the end": ((2, 3), (2, 3, 1, 1), "squeezes"),
    "a one more": ((2, 1), (2, 1, 1), "squeezes"),
    "ones for a scalar": ((), (1, 1), "squeezes"),
    "nothing, and a one": ((0, 3), (0, 3, 1), "squeezes"),
    "a one at the end of another shape": ((3, 2), (2, 3, 1), "refused"),
    "a one at the end of a longer shape": ((2,), (4, 1), "refused"),
    "a two at the end": ((2, 3), (2, 3, 2), "refused"),
    "a nought at the end": ((2, 3), (2, 3, 0), "refused"),
    "a one at the beginning": ((2, 3), (1, 2, 3), "refused"),
    "a one in between": ((2, 3), (2, 1, 3), "refused"),
    "a one too few": ((2, 1), (2,), "refused"),
    "a scalar for a vector of one": ((1,), (), "refused"),
    "transposed": ((2, 3), (3, 2), "refused"),
    "flat": ((6,), (2, 3), "refused"),
    "nothing, otherwise": ((0, 3), (0,), "refused"),
}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("mine", "theirs", "outcome"), SHAPES.values(), ids=SHAPES)
def test_shapes(mine, theirs, outcome, strict):
    """Loosely and strictly, shapes are equal or the checkpoint's has additional ones at the end."""
    what = planned({"w": (mine, "Float32")}, {"w": (theirs, "Float32")}, strict)
    found = ["squeezes" if pair.squeezes else "loads" for pair in what.pairs] + ["refused" for _ in what.refusals]

    assert found == [outcome]


# Names of the net, names of the checkpoint -> what takes what, what is missing, prefixes taken off.
PREFIXES = {
    "in the checkpoint": ("weight bias", "fc.weight fc.bias", "weight=fc.weight bias=fc.bias", "", ["fc."]),
    "of one of them": ("bias bn.beta", "a.bias bn.beta", "bias=a.bias bn.beta=bn.beta", "", ["a."]),
    "the first in the file": ("w", "a.w b.w", "w=a.w", "", ["a."]),
    "of characters": ("w", "neww", "w=neww", "", ["new"]),
    "in the net": ("net.w", "w", "", "net.w", []),
    "one for all": ("a b c d", "x.d x.c x.b x.a", "a=x.a b=x.b c=x.c d=x.d", "", ["x."]),
    "one after another": ("w v u", "a.w a.v b.u", "w=a.w v=a.v u=b.u", "", ["a.", "b."]),
    "the first missing one decides": ("v w", "a.w b.v b.w", "v=b.v w=b.w", "", ["b."]),
    "the next, if the first has none": ("v w", "a.w", "w=a.w", "v", ["a."]),
    "not of what has its own": ("w v", "w a.w a.v", "w=w v=a.v", "", ["a."]),
    "equal to the first missing name": ("a b", "ab", "", "a b", []),
    "equal to another missing name": ("b a", "ab", "b=ab", "a", ["a"]),
    "equal to the first, and another": ("a b c", "ab x.c", "c=x.c", "a b", ["x."]),
    "of a name within a name": ("w", "net.w.w", "w=net.w.w", "", ["net.w."]),
    "twice the same value": ("w ww", "xww", "w=xww ww=xww", "", ["xw", "x"]),
}


@pytest.mark.parametrize("few", [0, 32], ids=["sorted", "compared"])
@pytest.mark.parametrize(("net", "values", "taken", "missing", "prefixes"), PREFIXES.values(), ids=PREFIXES)
def test_prefixes(net, values, taken, missing, prefixes, few, monkeypatch):
    """Prefixes are removed from the checkpoint's names until nothing more is found; such values still count as unused.

    It does not matter whether names are compared one by one or sorted first.
    """
    monkeypatch.setattr(binding, "_FEW", few)
    net, values = vectors(*net.split()), vectors(*values.split())
    what = planned(net, values)

    assert loads(what) == dict(pair.split("=") for pair in taken.split())
    assert (what.missing, list(what.prefixes)) == (tuple(missing.split()), prefixes)
    assert what.unused == tuple(name for name in values if name not in loads(what))


@pytest.mark.parametrize(("net", "values"), [case[:2] for case in PREFIXES.values()], ids=PREFIXES)
def test_no_prefix_is_taken_off_strictly(net, values):
    """Strictly, only a parameter's own name counts."""
    net, values = vectors(*net.split()), vectors(*values.split())
    what = planned(net, values, strict=True)

    assert loads(what) == {name: name for name in net if name in values}
    assert (what.missing, what.prefixes) == (tuple(name for name in net if name not in values), ())


def test_strings_and_maps_give_no_prefix():
    """A string or a map is skipped in favour of a tensor whose name also ends with the missing one."""
    what = planned(vectors("w", "v"), {"a.w": TEXT, "b.w": TABLE, "c.w": VECTOR, "c.v": TEXT})

    assert (loads(what), what.missing, what.prefixes) == ({"w": "c.w"}, ("v",), ("c.",))


def test_what_is_found_behind_a_prefix_must_fit():
    """A value behind a prefix is converted or refused like any other, and its parameter is not missing."""
    values = {"x.a": ((2,), "Float16"), "x.b": ((3,), "Float32")}
    what = planned(vectors("a", "b"), values)

    assert [(pair.source, pair.casts) for pair in what.pairs] == [("x.a", True)]
    assert [(refusal.name, refusal.source) for refusal in what.refusals] == [("b", "x.b")]
    assert what.missing == ()


def test_an_empty_name_ends_every_name_and_matches_none():
    """A parameter without a name stays missing."""
    assert planned(vectors("", "w"), vectors("x.w"))[1:6] == (("",), ("x.w",), (), (), ("x.",))


def test_parameters_that_share_a_name_all_take_the_value():
    """Several parameters of one name take one value, with and without a prefix."""
    net = [Target("w", *VECTOR), Target("w", (2, 1), "Float16")]
    values = {"w": ((2, 1, 1), "Float32")}

    for behind in ("w", "x.w"):
        what = plan(net, candidates({behind: values["w"]}))

        assert [pair.target for pair in what.pairs] == net
        assert (what.missing, what.refusals) == ((), ())


def test_a_parameter_of_which_only_the_name_is_known_takes_any_tensor():
    """Shape, dtype and prefix do not matter; strings are still passed over."""
    net = [Target(name, (), "", takes_any=True) for name in ("a", "b", "c")]
    what = plan(net, candidates({"a": ((2, 3), "Float64"), "x.b": ((4,), "Bool"), "c": TEXT}))

    assert [(pair.source, pair.casts, pair.squeezes) for pair in what.pairs] == [
        ("a", False, False),
        ("x.b", False, False),
    ]
    assert (what.refusals, what.passed_over) == ((), ("c",))


def test_all_mismatches_are_reported_at_once():
    """One error names every parameter that does not fit, with both shapes or both dtypes, and says nothing changed."""
    net = {"a": ((2,), "Float32"), "b": ((2,), "Int32"), "c": VECTOR}
    what = planned(net, {"a": ((3,), "Float32"), "x.b": ((2,), "Float32"), "c": VECTOR})

    with pytest.raises(
        NetMismatch, match=r"2 parameters.*left as it was.*a: .*\(2,\).*\(3,\).*b: .*Int32.*Float32"
    ) as e:
        refuse(what)
    assert [name for name, _ in e.value.refusals] == ["a", "b"]
    assert isinstance(e.value, RuntimeError)


def test_a_message_lists_ten_mismatches_and_counts_the_rest():
    """The error has all 1,234 mismatches, and its message ten."""
    names = [f"layer{number}" for number in range(1234)]
    what = planned(vectors(*names), dict.fromkeys(names, ((3,), "Float32")))

    with pytest.raises(NetMismatch, match=r"1,234 parameters.*layer9: .*; and 1,224 more$") as raised:
        refuse(what)
    assert "layer10" not in str(raised.value)
    assert len(raised.value.refusals) == 1234


def test_what_fits_is_not_refused():
    """A plan without mismatches raises nothing, however much is missing."""
    assert refuse(planned(vectors("a", "b"), vectors("c"))) is None


@settings(max_examples=6 * settings.default.max_examples)
@given(nets_and_checkpoints())
def test_plans_are_what_mindspores_algorithm_gives(case):
    """For any net and checkpoint, pairs, missing and unused names, or the refusal equal MindSpore's."""
    net, values, strict = case
    what = planned(net, values, strict)
    try:
        expected = bind(net, values, strict, wanted=True)
    except Refused:
        expected = None

    assert (what.refusals == ()) == (expected is not None)
    if expected is not None:
        assert (loads(what), list(what.missing), list(what.unused)) == expected


class CountingCandidates(dict):
    """Candidates that count their look-ups."""

    looks = 0

    def get(self, name, default=None):
        """`get`, as in a dict."""
        self.looks += 1
        return super().get(name, default)

    def __getitem__(self, name):
        self.looks += 1
        return super().__getitem__(name)


def test_the_cost_grows_with_the_names_not_with_their_product():
    """For 100,000 parameters, one of them missing, names are looked up about once each."""
    names = [f"layers.{number // 10}.block.{number % 10}.weight" for number in range(100_000)]
    known = CountingCandidates(candidates(vectors(*names[:-1], "other")))
    what = plan(targets(vectors(*names)), known)

    assert what.missing == (names[-1],)
    assert len(names) <= known.looks <= len(names) + 10


def test_the_cost_of_a_prefix_is_a_few_looks_a_name():
    """100,000 parameters behind one prefix are found with a few looks each."""
    names = [f"layers.{number}.weight" for number in range(100_000)]
    known = CountingCandidates(candidates(vectors(*(f"net.{name}" for name in names))))
    what = plan(targets(vectors(*names)), known)

    assert what.prefixes == ("net.",)
    assert known.looks <= 4 * len(names)


def tied(name, storage="s", start=0, stop=8, is_dense=True):
    """A vector with this memory."""
    return Target(name, *VECTOR, memory=Memory(storage, start, stop, is_dense))


@pytest.mark.parametrize(
    ("other", "is_tied"),
    [
        (tied("head"), True),
        (tied("head", start=4), True),
        (tied("head", stop=12), False),
        (tied("head", start=-4), False),
        (tied("head", storage="t"), False),
        (Target("head", *VECTOR), False),
    ],
)
def test_a_parameter_in_the_memory_of_a_loaded_one_is_not_missing(other, is_tied):
    """All of its bytes must be among those that were loaded; it has no pair, so that nothing is loaded twice."""
    what = plan([other, tied("embed")], candidates(vectors("embed")))

    assert (what.tied, what.missing) == (((("head", "embed"),), ()) if is_tied else ((), ("head",)))
    assert loads(what) == {"embed": "embed"}


def test_memory_with_gaps_covers_no_other():
    """The bytes between its own were not loaded."""
    assert plan([tied("head"), tied("embed", is_dense=False)], candidates(vectors("embed"))).missing == ("head",)


def test_tied_parameters_are_found_behind_prefixes():
    """A parameter that takes its value behind a prefix is a loaded one."""
    what = plan([tied("head"), tied("embed")], candidates(vectors("net.embed")))

    assert (loads(what), what.tied, what.missing) == ({"embed": "net.embed"}, (("head", "embed"),), ())


def test_tied_parameters_without_a_value_are_missing():
    """Both, if neither was loaded."""
    assert plan([tied("head"), tied("embed")], candidates(vectors("w"))).missing == ("head", "embed")


def test_an_alias_takes_the_value_under_its_other_name():
    """In the net's order; the value is used. Aliases are asked for only if a name is missing."""
    what = plan(
        targets(vectors("head", "embed", "w")), candidates(vectors("embed", "w")), False, lambda: {"head": "embed"}
    )
    assert (loads(what), what.missing, what.unused) == ({"head": "embed", "embed": "embed", "w": "w"}, (), ())
    assert [pair.target.name for pair in what.pairs] == ["head", "embed", "w"]
    assert what.aliased == (("head", "embed"),)

    plan(targets(vectors("w")), candidates(vectors("w")), False, pytest.fail)


@pytest.mark.parametrize(
    ("net", "aliases"),
    [
        ({"head": ((2, 1), "Float32")}, {"head": "embed"}),
        (vectors("head"), {"head": "none"}),
        (vectors("head"), {"head": "text"}),
        (vectors("head"), {"format": "pt"}),
    ],
)
def test_an_alias_of_another_kind_or_shape_is_missing(net, aliases):
    """It may be another view of the same memory, such as a transposed one."""
    what = plan(targets(net), candidates({**vectors("embed"), "text": TEXT}), False, lambda: aliases)

    assert (what.missing, what.aliased, what.refusals) == (("head",), (), ())


def test_a_tied_parameter_takes_no_value_by_its_alias():
    """Its memory is filled once."""
    what = plan([tied("head"), tied("embed")], candidates(vectors("embed")), False, lambda: {"head": "embed"})

    assert (loads(what), what.tied, what.aliased) == ({"embed": "embed"}, (("head", "embed"),), ())
