"""Files of any size that cost as much as possible to read: many small items of every kind that a parser counts.

`SPECIMENS` has a table for each parser: the name of a specimen, and the function that makes one of about so many bytes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable

import encryption
from checkpoints import array_value, chunk, group, number, tensor, value

ONE = tensor([1], "Int8", b"x")
KEY = encryption.KEY


def repeated(unit: bytes) -> Callable[[int], bytes]:
    """The same bytes again and again."""
    return lambda size: unit * max(1, size // len(unit))


def counted(unit: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """Units that differ by their number."""

    def make(size: int) -> bytes:
        step = len(unit(10_000))
        return b"".join(map(unit, range(max(1, size // step))))

    return make


def within(*around: Callable[[bytes], bytes], unit: bytes) -> Callable[[int], bytes]:
    """The same bytes again and again, inside one field of another."""

    def make(size: int) -> bytes:
        data = unit * max(1, size // len(unit))
        for wrap in reversed(around):
            data = wrap(data)
        return data

    return make


def _name(place: int) -> bytes:
    """A short name that no other number has: its digits to the base of 127."""
    letters, place = bytearray(), place + 1
    while place:
        place, rest = divmod(place, 127)
        letters.append(rest + 1)
    return bytes(letters)


def _in_value(data: bytes) -> bytes:
    return value(chunk(1, b"w"), data)


def _in_tensor(data: bytes) -> bytes:
    return value(chunk(1, b"w"), chunk(2, data))


def _in_map(data: bytes) -> bytes:
    return value(chunk(1, b"w"), chunk(3, data))


def _deep_groups(size: int) -> bytes:
    nest = b"\x13" * 98 + b"\x14" * 98
    return nest * max(1, size // len(nest))


CHECKPOINTS: dict[str, Callable[[int], bytes]] = {
    "empty values": repeated(b"\x0a\x00"),
    "empty values of two names": repeated(b"\x0a\x03\x0a\x01a\x0a\x03\x0a\x01b"),
    "empty values of many names": counted(lambda place: value(chunk(1, _name(place)))),
    "empty values of long names": counted(lambda place: value(chunk(1, b"%08d" % place + b"n" * 92))),
    "empty values of very long names": counted(lambda place: value(chunk(1, b"%08d" % place + b"n" * 2000))),
    "unknown numbers": repeated(b"\x10\x00"),
    "unknown long numbers": repeated(b"\x10" + b"\x80" * 8 + b"\x01"),
    "unknown texts": repeated(b"\x12\x00"),
    "unknown groups": repeated(b"\x13\x14"),
    "unknown deep groups": _deep_groups,
    "a group of numbers": lambda size: group(2, number(1, 0) * (size // 2)),
    "keys in a long form": repeated(b"\x8a\x00\x00"),
    "names of one value": within(_in_value, unit=chunk(1, b"a")),
    "empty names of one value": within(_in_value, unit=b"\x0a\x00"),
    "tensors of one value": within(_in_value, unit=b"\x12\x00"),
    "maps of one value": within(_in_value, unit=b"\x1a\x00"),
    "tensors and maps of one value": within(_in_value, unit=b"\x12\x00\x1a\x00"),
    "unknown numbers of one value": within(_in_value, unit=b"\x20\x00"),
    "unknown groups of one value": within(_in_value, unit=b"\x23\x24"),
    "many dims": within(_in_tensor, unit=b"\x08\x01"),
    "many packed dims": within(_in_tensor, lambda data: chunk(1, data), unit=b"\x01"),
    "many empty lists of dims": within(_in_tensor, unit=b"\x0a\x00"),
    "many types": within(_in_tensor, unit=b"\x12\x01a"),
    "many contents": within(_in_tensor, unit=b"\x1a\x00"),
    "unknown numbers of a tensor": within(_in_tensor, unit=b"\x20\x00"),
    "a long type": lambda size: _in_tensor(chunk(2, b"a" * size)),
    "arrays of a map": within(_in_map, unit=b"\x0a\x00"),
    "arrays of a map with a byte": within(_in_map, unit=chunk(1, b"".join(tensor([1], "int8", b"x")))),
    "unknown numbers of a map": within(_in_map, unit=b"\x10\x00"),
    "maps of three empty arrays": counted(lambda place: value(chunk(1, _name(place)), chunk(3, chunk(1, b"") * 3))),
    "slices of a byte": repeated(value(chunk(1, b"w"), chunk(2, b"".join(ONE)))),
    "slices of a byte and nothing else": repeated(value(chunk(2, chunk(3, b"x")))),
    "slices of a byte, of two names": repeated(
        b"".join(value(chunk(1, tag), chunk(2, b"".join(ONE))) for tag in (b"a", b"a", b"b", b"b"))
    ),
    "slices of many values": counted(lambda place: value(chunk(1, _name(place // 4000 + 1)), chunk(2, b"".join(ONE)))),
    "pairs of slices": counted(lambda place: value(chunk(1, _name(place // 2 + 1)), chunk(2, b"".join(ONE)))),
    "slices of a map": repeated(value(chunk(1, b"w"), chunk(3, chunk(1, b"".join(tensor([1], "int8", b"x")))))),
    "tiny values": counted(lambda place: value(chunk(1, _name(place)), chunk(2, b"".join(ONE)))),
    "tiny values of 32 dims": counted(
        lambda place: value(chunk(1, _name(place)), chunk(2, b"".join(tensor([1] * 32, "Int8", b"x"))))
    ),
    "tiny values of as many shapes": counted(
        lambda place: value(chunk(1, _name(place)), chunk(2, b"".join(tensor([0, place], "Int8", b""))))
    ),
    "tiny values of one name": repeated(
        b"".join(value(chunk(1, tag), chunk(2, b"".join(ONE))) for tag in (b"a", b"b", b"c"))
    ),
    "tiny values of many names, twice": lambda size: (
        2 * counted(lambda place: value(chunk(1, _name(place)), chunk(2, b"".join(ONE))))(size // 2)
    ),
    "strings": counted(lambda place: value(chunk(1, _name(place)), chunk(2, b"".join(tensor([0], "str", b"x\0\0\0"))))),
    "unknown types": counted(lambda place: value(chunk(1, _name(place)), chunk(2, chunk(2, b"a")))),
    "refused shapes": counted(lambda place: value(chunk(1, _name(place)), chunk(2, number(1, -1) + chunk(2, b"Int8")))),
    "param keys": counted(lambda place: value(chunk(1, _name(place) + b".__param_key__"), chunk(2, b"".join(ONE)))),
}


def _sealed(make: Callable[[int], bytes], block: int) -> Callable[[int], bytes]:
    return lambda size: encryption.encrypted(make(size), "AES-GCM", block=block)


ENCRYPTED: dict[str, Callable[[int], bytes]] = {
    "frames of a byte": lambda size: encryption.encrypted(repeated(b"\x0a\x00")(size // 49), "AES-GCM", block=1),
    "frames of 16 bytes": lambda size: _sealed(CHECKPOINTS["tiny values"], 16)(size // 4),
    "frames of empty values": _sealed(CHECKPOINTS["empty values"], 2**16),
    "frames of many names": _sealed(CHECKPOINTS["empty values of many names"], 2**16),
    "frames of tiny values": _sealed(CHECKPOINTS["tiny values"], 2**16),
    "frames of dims": _sealed(CHECKPOINTS["many dims"], 2**16),
    "frames of slices": _sealed(CHECKPOINTS["slices of a byte and nothing else"], 2**16),
}


def _header(text: str | bytes, contents: int = 0) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return len(data).to_bytes(8, "little") + data + b"\0" * contents


def _item(name: str, shape: str = "[0]", dtype: str = '"U8"', offsets: str = "[0,0]", more: str = "") -> str:
    return f'"{name}":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}{more}}}'


def _header_of(item: Callable[[int], str]) -> Callable[[int], bytes]:
    def make(size: int) -> bytes:
        return _header("{" + ",".join(map(item, range(max(1, size // (len(item(10_000)) + 1))))) + "}")

    return make


def _list_of(unit: str, size: int) -> str:
    return "[" + ",".join(itertools.repeat(unit, max(1, size // (len(unit) + 1)))) + "]"


SAFETENSORS: dict[str, Callable[[int], bytes]] = {
    "items": _header_of(lambda place: _item(f"{place:x}")),
    "items in another order": _header_of(
        lambda place: f'"{place:x}":{{"shape":[0],"dtype":"U8","data_offsets":[0,0]}}'
    ),
    "items of escaped names": _header_of(lambda place: _item(f"\\u{place % 2**15:04x}{place:x}")),
    "items of as many shapes": _header_of(lambda place: _item(f"{place:x}", f"[0,{place}]")),
    "items of 32 dims": _header_of(lambda place: _item(f"{place:x}", str([0] * 32).replace(" ", ""))),
    "items of 40 dims": _header_of(lambda place: _item(f"{place:x}", str([0] * 40).replace(" ", ""))),
    "items of long names": _header_of(lambda place: _item(f"{place:x}" + "n" * 1000)),
    "one name": _header_of(lambda _: _item("w")),
    "items of unknown types": _header_of(lambda place: _item(f"{place:x}", dtype='"Q7"')),
    "items of F6": _header_of(lambda place: _item(f"{place:x}", dtype='"F6_E2M3"')),
    "items with more keys": _header_of(lambda place: _item(f"{place:x}", more=',"a":{}')),
    "metadata": lambda size: _header(
        '{"__metadata__":{' + ",".join(f'"{place:x}":""' for place in range(size // 10)) + "}}"
    ),
    "metadata of one key": lambda size: _header('{"__metadata__":{' + ",".join(['"":""'] * (size // 6)) + "}}"),
    "a long string": lambda size: _header('{"__metadata__":{"a":"' + "n" * size + '"}}'),
    "a long string of escapes": lambda size: _header('{"__metadata__":{"a":"' + "\\n" * (size // 2) + '"}}'),
    "a long name": lambda size: _header("{" + _item("n" * size) + "}"),
    "spaces": lambda size: _header("{" + " " * size + _item("w") + "}"),
    "spaces behind": lambda size: _header("{" + _item("w") + " " * size + "}"),
    "spaces between": _header_of(lambda place: " " * 200 + _item(f"{place:x}")),
    "ones as dims": lambda size: _header("{" + _item("w", _list_of("1", size), offsets="[0,1]") + "}", 1),
    "zeros as dims": lambda size: _header("{" + _item("w", _list_of("0", size)) + "}"),
    "huge dims": lambda size: _header("{" + _item("w", _list_of(str(2**63), size)) + "}"),
    "a dim of many digits": lambda size: _header("{" + _item("w", "[" + "1" * size + "]") + "}"),
    "dims of 4,000 digits": lambda size: _header("{" + _item("w", _list_of("1" * 4000, size)) + "}"),
    "dims of real numbers": lambda size: _header("{" + _item("w", _list_of("1.5", size)) + "}"),
    "dims of lists": lambda size: _header("{" + _item("w", _list_of("[]", size)) + "}"),
    "dims of objects": lambda size: _header("{" + _item("w", _list_of('{"":0}', size)) + "}"),
    "deep lists": lambda size: _header("{" + _item("w", "[" * (size // 2) + "]" * (size // 2)) + "}"),
    "deep objects": lambda size: _header('{"w":' + '{"":' * (size // 5) + "0" + "}" * (size // 5) + "}"),
    "many deep lists": lambda size: _header(
        "{" + _item("w", _list_of("[" * 400 + "]" * 400, size), offsets="[0,1]") + "}", 1
    ),
    "offsets of many numbers": lambda size: _header("{" + _item("w", offsets=_list_of("0", size)) + "}"),
}


def _json(key: str) -> dict[str, Callable[[int], bytes]]:
    """JSON that is not what a reader expects under a key, and JSON that is no object at all."""

    def under(text: str) -> bytes:
        return f'{{"{key}":{text}}}'.encode()

    return {
        "deep lists": lambda size: b"[" * size,
        "deep objects": lambda size: b'{"":' * (size // 4),
        "lists": lambda size: under(_list_of("[]", size)),
        "objects": lambda size: under(_list_of('{"":0}', size)),
        "nested objects": lambda size: under(_list_of('{"":' * 100 + "0" + "}" * 100, size)),
        "wide text": lambda size: under('"\U0001f600' + "n" * size + '"'),
        "a number of many digits": lambda size: under("1" * size),
        "real numbers": lambda size: under(_list_of("1.5", size)),
        "one key": lambda size: under("{" + ",".join(['"a":0'] * (size // 6)) + "}"),
        "keys": lambda size: under("{" + ",".join(f'"{place:x}":0' for place in range(size // 9)) + "}"),
        "escapes": lambda size: under('"' + "\\u0041" * (size // 6) + '"'),
    }


def _object(key: str, items: Iterable[str]) -> bytes:
    return f'{{"{key}":{{{",".join(items)}}}}}'.encode()


LISTINGS = _json("weight_map") | {
    "names": lambda size: _object("weight_map", (f'"{place:x}":"part.ckpt"' for place in range(size // 18))),
    "parts": lambda size: _object("weight_map", (f'"{place:x}":"{place:x}"' for place in range(size // 14))),
    "parts outside": lambda size: _object("weight_map", (f'"{place:x}":"../a"' for place in range(size // 14))),
    "long names": lambda size: _object("weight_map", (f'"{place:0900x}":"part.ckpt"' for place in range(size // 916))),
}

_LAYOUT = {"dev_matrix": [1], "tensor_map": [-1]}


def _layouts(facts: object, size: int) -> bytes:
    text = json.dumps(facts, separators=(",", ":"))
    return _object("parallel_layout_item", (f'"{place:x}":{text}' for place in range(max(1, size // (len(text) + 9)))))


JSON_STRATEGIES = _json("parallel_layout_item") | {
    "layouts": lambda size: _layouts(_LAYOUT, size),
    "empty layouts": lambda size: _layouts({}, size),
    "layouts of nothing": lambda size: _layouts({"tensor_map": []}, size),
    "huge device matrix": lambda size: _layouts({"dev_matrix": [2**62] * (size // 20), "tensor_map": [-1]}, size),
    "huge device matrices": lambda size: _layouts({"dev_matrix": [2**62] * 32, "tensor_map": [-1]}, size),
    "long maps": lambda size: _layouts({"dev_matrix": [1], "tensor_map": [[-1]] * (size // 5)}, size),
    "uneven rows": lambda size: _layouts(
        {
            "dev_matrix": [1],
            "tensor_map": [-1],
            "param_split_shape": [0] * (size // 4),
            "indices_offset": [0] * (size // 4),
        },
        size,
    ),
    "stages": lambda size: _object(
        "parallel_layout_item", (f'"{place}-w":{json.dumps(_LAYOUT)}' for place in range(0, 2 * (size // 50), 2))
    ),
}


def _layout(place: int, *inner: bytes) -> bytes:
    return chunk(3, chunk(1, _name(place)) + chunk(2, b"".join(inner)))


STRATEGIES: dict[str, Callable[[int], bytes]] = {
    "empty layouts": repeated(chunk(3, b"")),
    "empty operators": repeated(chunk(2, b"")),
    "unknown numbers": lambda size: b"\x08\x00" * (size // 2),
    "layouts": counted(lambda place: _layout(place, chunk(1, b"\x08\x01"))),
    "layouts of empty lists": counted(lambda place: _layout(place, chunk(2, b"") * 30)),
    "huge device matrices": counted(
        lambda place: _layout(place, chunk(1, b"".join(number(1, 2**62) for _ in range(32))))
    ),
    "a packed device matrix": lambda size: _layout(1, chunk(1, chunk(1, b"\x01" * size))),
    "lists of one layout": lambda size: _layout(1, chunk(2, b"") * (size // 2)),
    "operators of many inputs": lambda size: chunk(2, chunk(1, b"a") + chunk(2, chunk(2, b"") * (size // 2))),
    "names of one layout": lambda size: chunk(3, chunk(1, b"a") * (size // 3)),
}

GROUPS: dict[str, Callable[[int], bytes]] = {
    "groups": counted(lambda place: chunk(1, chunk(1, _name(place)) + chunk(2, number(1, 0)))),
    "empty groups": repeated(chunk(1, b"")),
    "ranks": lambda size: chunk(1, chunk(1, b"a") + chunk(2, number(1, 0) * (size // 2))),
    "packed ranks": lambda size: chunk(1, chunk(1, b"a") + chunk(2, chunk(1, b"\0" * size))),
    "many packed ranks": repeated(chunk(1, chunk(1, b"a") + chunk(2, chunk(1, b"\0" * 2**17)))),
    "restored ranks": repeated(chunk(2, number(1, 0))),
    "packed restored ranks": repeated(chunk(2, chunk(1, b"\0" * 2**10))),
}

GOOD = {
    "ckpt": array_value("w", [1]),
    "encrypted": encryption.encrypted(array_value("w", [1]), "AES-GCM"),
    "safetensors": _header("{" + _item("w") + "}"),
    "listing": b'{"weight_map": {"w": "part.ckpt"}}',
    "strategy": _layout(1, chunk(1, b"\x08\x01"), chunk(2, b"\x08\x00")),
    "json strategy": _layouts(_LAYOUT, 1),
    "group info": chunk(1, chunk(1, b"a") + chunk(2, number(1, 0))),
}

SPECIMENS: dict[str, dict[str, Callable[[int], bytes]]] = {
    "ckpt": CHECKPOINTS,
    "encrypted": ENCRYPTED,
    "safetensors": SAFETENSORS,
    "listing": LISTINGS,
    "strategy": STRATEGIES,
    "json strategy": JSON_STRATEGIES,
    "group info": GROUPS,
}
