"""Values as arrays of chunks: in pieces, in shards, nested, inlined or left out."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
from checkpoints import MIXED, array_value, checkpoint, counting, map_value, pattern, sliced_value, tensor_value
from entries import MARK, index_of
from followed_references import expected, outcome, written
from hostile_names import HOSTILE
from sharded_sets import CASES, opened, problems
from zarr_reading import arrays, attributes, chunks

import lazyckpt
from lazyckpt.errors import (
    ArgumentValueError,
    StaleIndex,
)
from lazyckpt.formats import FORMATS, scan
from lazyckpt.index.open_file import OpenFile
from lazyckpt.reading.reader import FileReader
from lazyckpt.references.files import Files
from lazyckpt.references.hierarchy import ReferenceOptions, Walk
from lazyckpt.references.metadata import LEFT_OUT, NAME
from lazyckpt.sources import BytesSource


@pytest.mark.parametrize("size", [1, 64, 1000])
def test_chunks_change_nothing(size, path):
    """Values are the same for any requested chunk size."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        references = ckpt.references(chunk_size=size).to_dict()

        assert outcome(arrays(references)) == expected(ckpt)
        assert len(chunks(references, "conv1.weight")) == {1: 150, 64: 30, 1000: 1}[size]


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"damaged/two_files"}))  # its ranks have no step in common
def test_shards_are_chunks(name):
    """In a recorded distributed checkpoint equally cut tensors are arrays of chunks; others are reported."""
    lost = {*problems(name), *({"z"} if name == "damaged/truncated" else ())}
    with opened(name, **({"collisions": "last"} if name == "segmented/many" else {})) as ckpt:
        references = ckpt.references().to_dict()
        left_out = attributes(references).get(LEFT_OUT, {})

        assert lost <= set(left_out)
        assert all("not all of one shape" in why for one, why in left_out.items() if one not in lost)
        for one, array in arrays(references).items():
            known = attributes(references, one).get(NAME, one)
            stored = ckpt[known].asnumpy() if not isinstance(ckpt[known], str) else np.asarray(ckpt[known])
            assert array.tobytes() == stored.tobytes()
            assert array.shape == stored.shape
        assert len(arrays(references)) + len(left_out) == len(ckpt)


def test_some_recorded_tensors_have_a_chunk_for_each_shard():
    """A matrix shared by a grid of devices is one array without a copy."""
    with opened("mixed_2x4/protobuf") as ckpt:
        references = ckpt.references().to_dict()

    assert sorted({len(chunks(references, one)) for one in arrays(references)}) == [1, 4, 8]


@pytest.mark.parametrize("lengths", [(480,), (480, 960), (100, 7), (1,), (0, 480), (17, 17, 17)])
@pytest.mark.parametrize("size", [None, 240, 1])
def test_a_value_in_pieces_is_one_array(lengths, size, tmp_path):
    """A value cut at rows, within a row or within an element is one array."""
    value = np.frombuffer(pattern(1680), "<f4").reshape(7, 60)
    with written(tmp_path, sliced_value("w", value, lengths) + array_value("b", counting((3,)))) as ckpt:
        references = ckpt.references(chunk_size=size).to_dict()

        assert arrays(references)["w"].tobytes() == value.tobytes()


def test_pieces_that_end_with_rows_are_not_copied(tmp_path):
    """Chunks have as many rows as all borders allow."""
    with written(tmp_path, sliced_value("w", counting((6, 60)), (480, 480))) as ckpt:
        found = chunks(ckpt.references().to_dict(), "w")

    assert [length for _, _, length in found.values()] == [480, 480, 480]


def test_scalars_and_tensors_of_nothing(tmp_path):
    """Empty tensors have no chunks; a scalar without bytes in the file is zero and reads none."""
    values = {"none": np.zeros((0, 3), "float32"), "one": np.array(5, "int64"), "after": counting((9,))}
    data = checkpoint(values) + tensor_value("vain", [0], "Float32", b"")
    with written(tmp_path, data) as ckpt:
        references = ckpt.references().to_dict()

        assert outcome(arrays(references)) == expected(ckpt)
        assert chunks(references, "none") == {}
        assert list(chunks(references, "one")) == ["0"]


def test_refused_values_are_reported(tmp_path):
    """All other values are present."""
    data = array_value("w", counting((3,))) + tensor_value("bad", [4], "Float32", b"\0" * 5)
    with written(tmp_path, data) as ckpt:
        references = ckpt.references().to_dict()

        assert list(arrays(references)) == ["w"]
        assert attributes(references)[LEFT_OUT] == {"bad": ckpt.entry("bad").reason}


def test_a_value_that_would_be_left_out_can_be_an_error(tmp_path):
    """With `strict` nothing is written, and the error names the value."""
    data = array_value("w", counting((3,))) + tensor_value("bad", [4], "Float32", b"\0" * 5)
    with written(tmp_path, data) as ckpt, pytest.raises(ArgumentValueError, match="no reference can be made to 'bad'"):
        ckpt.references(strict=True).save(tmp_path / "refs.json")

    assert sorted(os.listdir(tmp_path)) == ["net.ckpt"]


def test_values_only_in_memory_are_reported(path):
    """A file's references cannot contain them; reading a value does not change it."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        ckpt["note"], ckpt["new"] = "another", counting((2,))
        ckpt["fc.weight"].set_data(counting((2,)))
        del ckpt["step"]
        assert ckpt["empty"] == ""
        references = ckpt.references().to_dict()

    assert {name: why[:32] for name, why in attributes(references)[LEFT_OUT].items()} == dict.fromkeys(
        ["fc.weight", "note", "new"], "it was changed in memory, and is"
    )
    assert "empty" in arrays(references)
    assert "step" not in arrays(references)


@pytest.mark.parametrize("nested", [False, True])
def test_hostile_names_are_recorded_unchanged(nested, tmp_path):
    """Every array has a harmless path and an attribute with its name."""
    names = [
        name for name in HOSTILE if name.strip() == name and "\ud800" not in name and (name.strip(".") or not nested)
    ]
    values = {name: np.array([number], "int32") for number, name in enumerate(names)}
    with written(tmp_path, checkpoint(values)) as ckpt:
        references = ckpt.references(list(ckpt), nested=nested).to_dict()
        found = {attributes(references, path).get(NAME, path): array[0] for path, array in arrays(references).items()}

        ckpt.references(list(ckpt), nested=nested).save(tmp_path / "refs.json")

        assert found == {name: ckpt[name].asnumpy()[0] for name in ckpt}
        assert len(found) > 20
        assert not [key for key in references["refs"] if re.search(r"[^\w./~-]", key) or "//" in key]
        assert not re.search(r"\{[{%#]", (tmp_path / "refs.json").read_text(encoding="ascii") + str(references)[1:])


def test_nested_names_are_groups(path):
    """Each group is announced once, before its members."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        references = ckpt.references(nested=True).to_dict()

        assert sorted(arrays(references)) == sorted(name.replace(".", "/") for name in expected(ckpt))
    assert [key for key in references["refs"] if key.endswith(".zgroup")] == [
        ".zgroup", "conv1/.zgroup", "fc/.zgroup",
    ]  # fmt: skip


def test_a_name_cannot_be_an_array_and_a_group(tmp_path):
    """A name that would be both is refused when nested, and accepted when flat."""
    with written(tmp_path, checkpoint({"a.b": counting((2,)), "a": counting((3,))})) as ckpt:
        with pytest.raises(ArgumentValueError, match="'a' is a parameter, and other names go on after it and a dot"):
            ckpt.references(nested=True).to_dict()
        assert sorted(arrays(ckpt.references().to_dict())) == ["a", "a.b"]


def test_small_values_are_copied_on_request(path):
    """Small values are copied into the references on request, larger ones never."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        references = ckpt.references(inline=24, chunk_size=4).to_dict()

        assert outcome(arrays(references)) == expected(ckpt)
        found = {name: list(chunks(references, name).values()) for name in arrays(references)}
        copied = {name for name, values in found.items() if isinstance(values[0], str)}
        assert copied == {name for name, array in arrays(references).items() if array.nbytes <= 24}
        assert {len(found[name]) for name in copied} == {1}


def test_content_that_looks_like_a_copy_is_not_copied(tmp_path):
    """Readers would decode it as a copy."""
    with written(tmp_path, checkpoint({"w": np.frombuffer(b"base64:QUJD", "u1")})) as ckpt:
        references = ckpt.references(inline=100).to_dict()

    assert arrays(references)["w"].tobytes() == b"base64:QUJD"
    assert chunks(references, "w")["0"][2] == 11


def test_an_index_that_is_wrong_is_not_believed(tmp_path, path):
    """With an outdated index no reference is made."""
    ckpt = lazyckpt.load_checkpoint(path, index="memory")
    data, time = bytearray(path.read_bytes()), path.stat().st_mtime_ns
    place = data.index(b"conv1.bias")
    data[place : place + 10] = b"conv1.bits"
    with open(path, "r+b") as file:
        file.write(data)
    os.utime(path, ns=(time, time))

    with pytest.raises(StaleIndex):
        ckpt.references().save(tmp_path / "refs.json")
    assert not (tmp_path / "refs.json").exists()


def test_the_arrays_of_a_map_tell_what_they_are(path):
    """The attributes have the map's name and the part; no parameter can have these paths."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        found = attributes(ckpt.references().to_dict(), "table~keys")

    assert found == {"_ARRAY_DIMENSIONS": ["table~keys:0"], NAME: "table", "lazyckpt_part": "keys"}


@pytest.mark.parametrize("count", range(5))
def test_a_map_may_lack_its_last_arrays(count, tmp_path):
    """A truncated map has its remaining arrays; one without arrays, or with too many, is left out."""
    data = map_value("m", [counting((3,), "int32")] * count) + array_value("w", counting((2,)))
    with written(tmp_path, data) as ckpt:
        references = ckpt.references().to_dict()

    parts = [f"m~{part}" for part in ("keys", "values", "status")[:count]] if 0 < count <= 3 else []
    assert sorted(arrays(references)) == sorted([*parts, "w"])
    assert list(attributes(references).get(LEFT_OUT, {})) == ([] if parts else ["m"])


@pytest.mark.parametrize("nested", [False, True])
def test_how_many_chunks_an_array_has_is_known_before(nested):
    """The total of a node is its number of chunks; groups have none."""
    source = BytesSource(checkpoint(MIXED), "s3://bucket/net.ckpt")
    known = {entry.name: entry for entry in scan(source, "ckpt")}
    how = ReferenceOptions(chunk_size=100, nested=nested)
    reader = FileReader(OpenFile(source, FORMATS["ckpt"], index_of(known.values())))
    walk = Walk(known.items, reader, Files(source, MARK), how)
    counts = [(node.total, sum(1 for _ in node.chunks)) for node in walk.nodes()]

    assert [total for total, _ in counts] == [came for _, came in counts]
    assert [total for total, _ in counts if total] == [6, 1, 40, 1, 1, 1, 1, 1, 1, 1]
