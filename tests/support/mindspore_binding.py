"""A reference implementation of MindSpore's binding, and strategies for its arguments.

`tests/interop/mindspore` checks that `bind` gives the results of MindSpore 2.10.0. The other tests compare
`lazyckpt.frameworks.binding` with it, without MindSpore. A net and a checkpoint are dicts name -> (shape, dtype); in a
checkpoint, `TEXT` and `TABLE` stand for a string and a map.
"""

from __future__ import annotations

import math

from hypothesis import strategies as st

FLOATS = ("Float16", "Float32", "Float64", "BFloat16")
SIGNED = ("Int8", "Int16", "Int32", "Int64", "Int4")
DTYPES = (*FLOATS, *SIGNED, "UInt8", "UInt16", "UInt32", "UInt64", "Bool")
TEXT, TABLE = "a string", "a map"


class Refused(Exception):
    """MindSpore raises an error for these arguments."""


def bind(net, values, strict, wanted=False):
    """The sources of the net's names, its missing names, and the unused names of the checkpoint.

    With `wanted`, it includes the intended differences of lazyckpt: trailing ones of a shape are dropped only if the
    other dimensions are equal, and only tensors are considered when looking for a prefix.
    """
    loads, missing, unused = {}, [], list(values)
    for name in net:
        if name not in values:
            if not name.startswith("accu_grads"):
                missing.append(name)
        elif isinstance(values[name], tuple):
            _update(net[name], values[name], strict, wanted)
            loads[name] = name
            unused.remove(name)
    if missing and not strict:
        _remove_prefixes(net, values, missing, loads, wanted)
    return loads, missing, unused


def _remove_prefixes(net, values, missing, loads, wanted):
    longest = missing[0]
    prefix = ""
    while prefix != longest and missing:
        prefix = longest
        for name in missing:
            for other in values:
                if other.endswith(name) and (isinstance(values[other], tuple) or not wanted):
                    prefix = other[: -len(name)]
                    break
            if prefix != longest:
                break
        if prefix != longest:
            for name in net:
                other = prefix + name
                if name in missing and other in values and (isinstance(values[other], tuple) or not wanted):
                    _update(net[name], values[other], False, wanted)
                    loads[name] = other
                    missing.remove(name)


def _update(mine, theirs, strict, wanted):
    if not isinstance(theirs, tuple):
        raise Refused("'str' object has no attribute 'data'")
    (shape, dtype), (other_shape, other_dtype) = mine, theirs
    if shape != other_shape:
        extra = other_shape[len(shape) :]
        if not extra or any(dim != 1 for dim in extra):
            raise Refused("the same shape")
        if math.prod(shape) != math.prod(other_shape) or (wanted and shape != other_shape[: len(shape)]):
            raise Refused("cannot reshape")
    if dtype != other_dtype and (strict or not any({dtype, other_dtype} <= set(family) for family in (FLOATS, SIGNED))):
        raise Refused("the same type")


_names = st.one_of(
    st.sampled_from(["a", "b", "ab", "a.b", "b.a", "w", "net.w", "accu_grads.w"]),
    st.text("ab.", min_size=1, max_size=3),
)
_prefixes = st.sampled_from(["", "", "a", "b.", "a.b", "net.", "x.", "x.a"])
_shapes = st.sampled_from([(2,), (2, 3), (3, 2), (2, 1), (1,), (), (2, 1, 1), (0,), (0, 1), (4, 1)])
_rarely = st.integers(0, 15).map(lambda number: number == 5)  # Hypothesis prefers the ends of a range


@st.composite
def nets_and_checkpoints(draw, dtypes=DTYPES):
    """A net and a checkpoint that have much in common: (net, checkpoint, strict)."""
    described = st.tuples(_shapes, st.sampled_from(dtypes))
    net = draw(st.dictionaries(_names, described, min_size=1, max_size=6))
    usual = draw(_prefixes)
    saved = [
        (draw(_prefixes) if draw(_rarely) else usual) + name for name in net if draw(st.integers(0, 3)) or draw(_rarely)
    ]
    others = draw(st.lists(st.builds(str.__add__, _prefixes, _names), max_size=3))
    values = {}
    for name in draw(st.permutations([*saved, *others])):
        meant = next((mine for mine in net if name.endswith(mine)), None)
        values[name] = draw(_value_for(*(net[meant] if meant else draw(described)), dtypes))
    return net, values, draw(st.sampled_from([False, False, True]))


@st.composite
def _value_for(draw, shape, dtype, dtypes):
    """The value saved for a parameter, most often with the same shape and dtype."""
    if draw(_rarely):
        return draw(st.sampled_from([TEXT, TABLE]))
    if draw(_rarely):
        shape = draw(_shapes)
    if draw(_rarely):
        shape = (*shape, *draw(st.sampled_from([(1,), (1, 1), (2,)])))
    if draw(_rarely) or draw(_rarely):
        dtype = draw(st.sampled_from(dtypes))
    return shape, dtype
