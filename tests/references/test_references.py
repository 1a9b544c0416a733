"""References: whoever follows them, knowing zarr and nothing of checkpoints, has the values, or is told why not."""

from __future__ import annotations

import json
import os
import re

import ml_dtypes
import numpy as np
import pytest
from checkpoints import MIXED, array_value, checkpoint, counting, map_value, pattern, sliced_value, tensor_value
from encryption import KEY, encrypted
from hostile_names import HOSTILE
from opening import opened_and_traced
from safetensors_files import item, raw
from sharded_sets import CASES, opened, problems
from tracing import TracingSource, places
from zarr_reading import arrays, attributes, chunks

import lazyckpt
from lazyckpt.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    ChangedFile,
    ClosedCheckpoint,
    EncryptedFile,
    FolderInTheWay,
    MissingFolder,
    StaleIndex,
)
from lazyckpt.loading import open_all
from lazyckpt.references.metadata import LEFT_OUT, NAME
from lazyckpt.sources import BytesSource

TENSORS = {name: value for name, value in MIXED.items() if isinstance(value, np.ndarray)}


@pytest.fixture
def path(tmp_path):
    """A checkpoint of one of each kind."""
    path = tmp_path / "net.ckpt"
    path.write_bytes(checkpoint(MIXED))
    return path


def written(tmp_path, data, name="net.ckpt"):
    """A file of these bytes, open."""
    (tmp_path / name).write_bytes(data)
    return open_all(tmp_path / name, index="memory")


def outcome(found):
    """Arrays, and texts, as what can be compared."""
    return {
        name: str(array) if array.dtype.kind == "U" else (array.dtype, array.shape, array.tobytes())
        for name, array in found.items()
    }


def expected(ckpt):
    """What must be found of a checkpoint whose names need no change, as `outcome`."""
    values = {}
    for name, value in ckpt.load().items():
        if isinstance(value, list):
            values.update(
                {f"{name}~{part}": one for part, one in zip(("keys", "values", "status"), value, strict=True)}
            )
        else:
            values[name] = np.asarray(value) if isinstance(value, str) else value
    return outcome(values)


def test_a_checkpoint_is_read_by_its_references(path):
    """Tensors, scalars, strings and maps are what they are to lazyckpt."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        assert outcome(arrays(ckpt.references().to_dict())) == expected(ckpt)


@pytest.mark.parametrize("size", [1, 64, 1000])
def test_chunks_change_nothing(size, path):
    """Of whatever size they are wished for."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        references = ckpt.references(chunk_size=size).to_dict()

        assert outcome(arrays(references)) == expected(ckpt)
        assert len(chunks(references, "conv1.weight")) == {1: 150, 64: 30, 1000: 1}[size]


def test_a_safetensors_file_is_read_by_its_references(tmp_path):
    """Its types are zarr's as well, complex numbers among them."""
    contents = np.array([1 + 2j, 3 - 4j], "complex64").tobytes() + counting((2, 3)).tobytes()
    header = {"c": item("C64", (2,), 0, 16), "w": item("F32", (2, 3), 16, 40)}
    with written(tmp_path, raw(header, contents), "net.safetensors") as ckpt:
        assert outcome(arrays(ckpt.references().to_dict())) == expected(ckpt)


@pytest.mark.parametrize("name", sorted(CASES))
def test_shards_are_chunks(name):
    """A recorded distributed checkpoint: tensors cut alike are arrays of as many chunks; others are told of."""
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
    """A matrix that a grid of devices shares needs no copy of its own to be one array."""
    with opened("mixed_2x4/protobuf") as ckpt:
        references = ckpt.references().to_dict()

    assert sorted({len(chunks(references, one)) for one in arrays(references)}) == [1, 4, 8]


def test_a_set_is_read_by_its_references(tmp_path):
    """Each value in the file that has it."""
    with lazyckpt.load_checkpoint(written(tmp_path, checkpoint(TENSORS)).path) as ckpt:
        ckpt.save(tmp_path / "net.safetensors", max_shard_size=2000)
    with lazyckpt.load_checkpoint(tmp_path / "net.safetensors.index.json", format="safetensors") as ckpt:
        references = ckpt.references().to_dict()

        assert outcome(arrays(references)) == expected(ckpt)
        assert len({one[0] for name in ckpt for one in chunks(references, name).values()}) > 1


@pytest.mark.parametrize("lengths", [(480,), (480, 960), (100, 7), (1,), (0, 480), (17, 17, 17)])
@pytest.mark.parametrize("size", [None, 240, 1])
def test_a_value_in_pieces_is_one_array(lengths, size, tmp_path):
    """Wherever MindSpore cut it: at the borders of rows, within a row, within an element."""
    value = np.frombuffer(pattern(1680), "<f4").reshape(7, 60)
    with written(tmp_path, sliced_value("w", value, lengths) + array_value("b", counting((3,)))) as ckpt:
        references = ckpt.references(chunk_size=size).to_dict()

        assert arrays(references)["w"].tobytes() == value.tobytes()


def test_pieces_that_end_with_rows_are_not_copied(tmp_path):
    """Chunks then are as many rows as all borders allow."""
    with written(tmp_path, sliced_value("w", counting((6, 60)), (480, 480))) as ckpt:
        found = chunks(ckpt.references().to_dict(), "w")

    assert [length for _, _, length in found.values()] == [480, 480, 480]


def test_a_string_too_long_to_be_copied_is_told_of(tmp_path):
    """In pieces it is no array of chunks; `strict` makes that an error, and nothing is written."""
    text = ("a" * 300_000).encode("utf-32-le")
    pieces = [tensor_value("note", [0], "str", part) for part in (text[:500_000], text[500_000:])]
    with written(tmp_path, b"".join(pieces)) as ckpt:
        references = ckpt.references().to_dict()

        assert re.search("2 pieces whose borders", attributes(references)[LEFT_OUT]["note"])
        with pytest.raises(ArgumentValueError, match=r"no reference can be made to 'note': it lies in 2 pieces"):
            ckpt.references(strict=True).save(tmp_path / "refs.json")
        assert sorted(os.listdir(tmp_path)) == ["net.ckpt"]


def test_types_that_zarr_lacks_are_integers_that_tell_their_name(tmp_path):
    """Viewed as the type they name, they are the values."""
    types = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu"}
    header = {}
    offset, data = 0, b""
    for short in types:
        width = 2 if short == "BF16" else 1
        header[short] = item(short, (8,), offset, offset + 8 * width)
        data += pattern(8 * width)
        offset += 8 * width
    with written(tmp_path, raw(header, data), "net.safetensors") as ckpt:
        references = ckpt.references().to_dict()
        found = arrays(references)
        viewed = {
            name: array.view(getattr(ml_dtypes, attributes(references, name)["lazyckpt_dtype"]))
            for name, array in found.items()
        }

        assert {array.dtype.kind for array in found.values()} == {"u"}
        assert outcome(viewed) == expected(ckpt)


def test_elements_that_share_bytes_are_bytes(tmp_path):
    """The shape in elements is told; rows that do not end where bytes do are left out."""
    header = {"even": item("F4", (3, 4), 0, 6), "odd": item("F4", (2, 3), 6, 9)}
    with written(tmp_path, raw(header, pattern(9)), "net.safetensors") as ckpt:
        references = ckpt.references().to_dict()

    assert arrays(references)["even"].tolist() == np.frombuffer(pattern(6), "u1").reshape(3, 2).tolist()
    assert attributes(references, "even") == {
        "_ARRAY_DIMENSIONS": ["even:0", "even:1"],
        "lazyckpt_dtype": "float4_e2m1fn",
        "lazyckpt_shape": [3, 4],
    }
    assert attributes(references)[LEFT_OUT] == {
        "odd": "its rows do not end where bytes do (2 elements of Float4E2M1FN share one)"
    }


def test_old_bfloat16_is_the_float32_it_is_kept_as(tmp_path):
    """MindSpore's old files have four bytes for each value."""
    value = counting((5,))
    with written(tmp_path, tensor_value("w", [5], "BFloat16", value.tobytes())) as ckpt:
        references = ckpt.references().to_dict()

        assert outcome(arrays(references)) == outcome({"w": ckpt["w"].asnumpy().astype("f4")})
        assert attributes(references, "w")["lazyckpt_dtype"] == "bfloat16"


def test_int4_is_a_byte_each_and_tells_its_name(tmp_path):
    """MindSpore keeps it so."""
    with written(tmp_path, tensor_value("w", [3], "Int4", b"\x01\xff\x07")) as ckpt:
        references = ckpt.references().to_dict()

    assert arrays(references)["w"].tolist() == [1, -1, 7]
    assert attributes(references, "w")["lazyckpt_dtype"] == "int4"


def test_scalars_and_tensors_of_nothing(tmp_path):
    """What has no elements has no chunks; a scalar with nothing in the file is zero, and reads nothing of others."""
    values = {"none": np.zeros((0, 3), "float32"), "one": np.array(5, "int64"), "after": counting((9,))}
    data = checkpoint(values) + tensor_value("vain", [0], "Float32", b"")
    with written(tmp_path, data) as ckpt:
        references = ckpt.references().to_dict()

        assert outcome(arrays(references)) == expected(ckpt)
        assert chunks(references, "none") == {}
        assert list(chunks(references, "one")) == ["0"]


def test_refused_values_are_told_of(tmp_path):
    """The rest is there."""
    data = array_value("w", counting((3,))) + tensor_value("bad", [4], "Float32", b"\0" * 5)
    with written(tmp_path, data) as ckpt:
        references = ckpt.references().to_dict()

        assert list(arrays(references)) == ["w"]
        assert attributes(references)[LEFT_OUT] == {"bad": ckpt.entry("bad").reason}


def test_what_is_in_memory_only_is_told_of(path):
    """A file's references cannot lead there; a value that was merely read is no change."""
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
def test_hostile_names_are_told_as_they_are(nested, tmp_path):
    """Every array is there under a harmless path, which tells the name."""
    names = [
        name for name in HOSTILE if name.strip() == name and "\ud800" not in name and (name.strip(".") or not nested)
    ]
    values = {name: np.array([number], "int32") for number, name in enumerate(names)}
    with written(tmp_path, checkpoint(values)) as ckpt:
        references = ckpt.references(list(ckpt), nested=nested).to_dict()
        told = {attributes(references, path).get(NAME, path): array[0] for path, array in arrays(references).items()}

        ckpt.references(list(ckpt), nested=nested).save(tmp_path / "refs.json")

        assert told == {name: ckpt[name].asnumpy()[0] for name in ckpt}
        assert len(told) > 20
        assert not [key for key in references["refs"] if re.search(r"[^\w./~-]", key) or "//" in key]
        assert not re.search(r"\{[{%#]", (tmp_path / "refs.json").read_text(encoding="ascii") + str(references)[1:])


def test_no_dimension_is_shared(path):
    """Sizes never contradict, and none is called as an array is."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        references = ckpt.references().to_dict()
    found = arrays(references)
    axes = [axis for name in found for axis in attributes(references, name)["_ARRAY_DIMENSIONS"]]

    assert len(axes) == len(set(axes)) == sum(array.ndim for array in found.values())
    assert not set(axes) & set(found)


def test_nested_names_are_groups(path):
    """Each is announced once, before what is in it."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        references = ckpt.references(nested=True).to_dict()

        assert sorted(arrays(references)) == sorted(name.replace(".", "/") for name in expected(ckpt))
    assert [key for key in references["refs"] if key.endswith(".zgroup")] == [
        ".zgroup", "conv1/.zgroup", "fc/.zgroup",
    ]  # fmt: skip


def test_a_name_cannot_be_an_array_and_a_group(tmp_path):
    """Nested, it would have to be; flat, all is well."""
    with written(tmp_path, checkpoint({"a.b": counting((2,)), "a": counting((3,))})) as ckpt:
        with pytest.raises(ArgumentValueError, match="'a' is a parameter, and other names go on after it and a dot"):
            ckpt.references(nested=True).to_dict()
        assert sorted(arrays(ckpt.references().to_dict())) == ["a", "a.b"]


def test_metadata_are_told_together_as_well(path):
    """So that readers ask once."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        refs = ckpt.references(nested=True).to_dict()["refs"]
    single = {key: json.loads(text) for key, text in refs.items() if re.search(r"\.z(array|group|attrs)$", key)}

    assert json.loads(refs[".zmetadata"]) == {"metadata": single, "zarr_consolidated_format": 1}


@pytest.mark.parametrize("options", [{}, {"nested": True}, {"inline": 100}, {"chunk_size": 200}])
def test_the_file_is_what_the_data_are(options, path, tmp_path):
    """In both ways, and what was left out is returned."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        ckpt["new"] = "text"
        references = ckpt.references(**options)
        left_out = references.save(tmp_path / "refs.json")

        assert json.loads((tmp_path / "refs.json").read_text(encoding="ascii")) == references.to_dict()
        assert left_out == attributes(references.to_dict())[LEFT_OUT]


def test_some_values_only(path):
    """In the order in which they are asked for; a name that is not there is an error at once."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        assert list(arrays(ckpt.references(["step", "conv1.bias"]).to_dict())) == ["step", "conv1.bias"]
        with pytest.raises(KeyError, match="nothing"):
            ckpt.references(["step", "nothing"])


def test_small_values_are_copied_on_request(path):
    """And no others."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        references = ckpt.references(inline=24, chunk_size=4).to_dict()

        assert outcome(arrays(references)) == expected(ckpt)
        found = {name: list(chunks(references, name).values()) for name in arrays(references)}
        copied = {name for name, values in found.items() if isinstance(values[0], str)}
        assert copied == {name for name, array in arrays(references).items() if array.nbytes <= 24}
        assert {len(found[name]) for name in copied} == {1}


def test_content_that_looks_like_a_copy_is_not_copied(tmp_path):
    """Readers would decode it."""
    with written(tmp_path, checkpoint({"w": np.frombuffer(b"base64:QUJD", "u1")})) as ckpt:
        references = ckpt.references(inline=100).to_dict()

    assert arrays(references)["w"].tobytes() == b"base64:QUJD"
    assert chunks(references, "w")["0"][2] == 11


def test_no_value_is_read():
    """Only headers are, to prove that they stand where the index says."""
    data = checkpoint(TENSORS)
    source = TracingSource(data)
    ckpt = opened_and_traced(source)
    ckpt.references(url="s3://bucket/net.ckpt", chunk_size=100).to_dict()
    payload = places(extent for name in ckpt for extent in ckpt.entry(name).extents)

    assert source.looked_at() & payload == set()


def test_an_index_that_is_wrong_is_not_believed(tmp_path, path):
    """Another file under an old index: no reference is made to what is not there."""
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


@pytest.mark.parametrize("after", [None, b"short"])
def test_a_file_that_is_not_the_one_that_was_opened_is_noticed(after, path, tmp_path):
    """Replaced or gone: what was opened is still there for this process, and for nobody else."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        path.unlink()
        if after is not None:
            path.write_bytes(after)
        with pytest.raises(ChangedFile, match=r"net\.ckpt: it (changed since it|was opened and is gone)"):
            ckpt.references().save(tmp_path / "refs.json")
        assert ckpt["step"].item() == 17
    assert not (tmp_path / "refs.json").exists()


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("s3://bucket/a b.ckpt", "s3://bucket/a b.ckpt"),
        ("s3://bucket/", "s3://bucket/net #1.ckpt"),
        ("https://host/x/", "https://host/x/net%20%231.ckpt"),
    ],
)
def test_the_file_may_be_published_elsewhere(url, found, tmp_path):
    """Under a URL, or in a folder; in one of the web its name is quoted."""
    with written(tmp_path, checkpoint(TENSORS), "net #1.ckpt") as ckpt:
        assert chunks(ckpt.references(url=url).to_dict(), "step")["0"][0] == found


def test_files_of_a_folder_keep_their_places_in_it(tmp_path):
    """Relative to the folder that all are in."""
    for part in "ab":
        (tmp_path / part).mkdir()
        (tmp_path / part / f"{part}.ckpt").write_bytes(checkpoint({part: counting((3,))}))
    with lazyckpt.open_sharded([tmp_path / "a" / "a.ckpt", tmp_path / "b" / "b.ckpt"]) as ckpt:
        references = ckpt.references(url="s3://bucket/run/").to_dict()

        assert [chunks(references, part)["0"][0] for part in "ab"] == [
            "s3://bucket/run/a/a.ckpt",
            "s3://bucket/run/b/b.ckpt",
        ]
        with pytest.raises(ArgumentValueError, match=r"several files: .* must be their folder"):
            ckpt.references(url="s3://bucket/run")


def test_a_url_that_would_be_interpreted_is_refused(tmp_path):
    """Given or found: a template must not be made of it."""
    folder = tmp_path / "{{secrets}}"
    folder.mkdir()
    with written(folder, checkpoint(TENSORS)) as ckpt:
        with pytest.raises(ArgumentValueError, match="looks like a template"):
            ckpt.references()
        with pytest.raises(ArgumentValueError, match="looks like a template"):
            ckpt.references(url="s3://{% x %}/net.ckpt")
        assert ckpt.references(url="s3://bucket/net.ckpt").to_dict()["version"] == 1


@pytest.mark.parametrize("mode", ["AES-GCM", "AES-CBC"])
def test_encrypted_files_are_refused(mode, tmp_path):
    """A reference carries no key."""
    (tmp_path / "secret.ckpt").write_bytes(encrypted(checkpoint(TENSORS), mode=mode))
    refused = pytest.raises(EncryptedFile, match=r"secret\.ckpt: the file is encrypted, .* write a plain copy first")
    with lazyckpt.load_checkpoint(tmp_path / "secret.ckpt", dec_key=KEY, dec_mode=mode) as ckpt, refused:
        ckpt.references()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"chunk_size": 0}, ArgumentValueError, "chunk_size must be at least 1, not 0"),
        ({"chunk_size": "1MB"}, ArgumentTypeError, "chunk_size must be a number of bytes, not str"),
        ({"inline": -1}, ArgumentValueError, "inline must be at least 0, not -1"),
        ({"inline": None}, ArgumentTypeError, "inline must be a number of bytes, not NoneType"),
        ({"url": 7}, ArgumentTypeError, "url must be a string, not int"),
        ({"url": "bucket/net.ckpt"}, ArgumentValueError, "'bucket/net.ckpt' is no URL: it must begin with"),
    ],
)
def test_options_that_make_no_sense_are_told(options, error, said, path):
    """Before anything is read."""
    with lazyckpt.load_checkpoint(path) as ckpt, pytest.raises(error, match=re.escape(said)):
        ckpt.references(**options)


def test_bytes_in_memory_have_no_url():
    """One must be given."""
    from opening import opened_over

    with pytest.raises(ArgumentValueError, match="is no file: give the URL"):
        opened_over(BytesSource(checkpoint(TENSORS))).references()


def test_nested_names_are_no_folders(path, tmp_path):
    """Readers of Parquet stumble over groups."""
    with lazyckpt.load_checkpoint(path) as ckpt, pytest.raises(ArgumentValueError, match="know no groups"):
        ckpt.references(nested=True).save(tmp_path / "refs.parquet")


def test_the_arrays_of_a_map_tell_what_they_are(path):
    """The map's name, and which of its parts; no parameter can have their paths."""
    with lazyckpt.load_checkpoint(path) as ckpt:
        told = attributes(ckpt.references().to_dict(), "table~keys")

    assert told == {"_ARRAY_DIMENSIONS": ["table~keys:0"], NAME: "table", "lazyckpt_part": "keys"}


def test_a_closed_checkpoint_has_none(path):
    """As it has nothing else."""
    ckpt = lazyckpt.load_checkpoint(path)
    ckpt.close()

    with pytest.raises(ClosedCheckpoint):
        ckpt.references()


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("refs.txt", ArgumentValueError, "must end with .json, .parquet, .parq"),
        ("no/refs.json", MissingFolder, "there is no folder"),
        ("folder.json", FolderInTheWay, "is a folder"),
        ("folder.parquet", FolderInTheWay, "exists and is no folder of references"),
    ],
)
def test_places_that_cannot_be_written_are_told(name, error, said, path, tmp_path):
    """What is there stays."""
    for folder in ("folder.json", "folder.parquet"):
        (tmp_path / folder).mkdir()
    with lazyckpt.load_checkpoint(path) as ckpt, pytest.raises(error, match=said):
        ckpt.references().save(tmp_path / name)

    assert not list(tmp_path.glob(".*"))
    assert not list((tmp_path / "folder.parquet").iterdir())


def test_the_command_writes_references(path, run, tmp_path):
    """For all values, or those that match."""
    code, told, complaint = run("references", str(path), "-o", str(tmp_path / "refs.json"))
    found = arrays(json.loads((tmp_path / "refs.json").read_text()))

    assert (code, complaint) == (0, "")
    assert told == f"{tmp_path / 'refs.json'}: 8 of 8 parameters\n"
    with lazyckpt.load_checkpoint(path) as ckpt:
        assert outcome(found) == expected(ckpt)

    code, told, _ = run(
        "references", str(path), "-o", str(tmp_path / "some.json"), "--include", "conv1.*", "--chunk", "300B",
        "--inline", "16B", "--url", "s3://bucket/net.ckpt", "--nested", "--strict",
    )  # fmt: skip
    references = json.loads((tmp_path / "some.json").read_text())

    assert (code, told) == (0, f"{tmp_path / 'some.json'}: 2 of 2 parameters\n")
    found = chunks(references, "conv1/weight")
    assert [(key, url, length) for key, (url, _, length) in found.items()] == [
        (key, "s3://bucket/net.ckpt", 300) for key in ("0.0.0.0", "1.0.0.0")
    ]
    assert chunks(references, "conv1/bias")["0"].startswith("base64:")


def test_the_command_tells_what_is_left_out(run, tmp_path):
    """On stderr; with `--strict` it fails and writes nothing."""
    bad = b"".join(tensor_value(f"bad{number}", [4], "Float32", b"\0" * 5) for number in range(23))
    (tmp_path / "net.ckpt").write_bytes(array_value("w", counting((3,))) + bad)
    arguments = ("references", str(tmp_path / "net.ckpt"), "-o", str(tmp_path / "refs.json"))
    code, told, complaint = run(*arguments)

    assert (code, told) == (0, f"{tmp_path / 'refs.json'}: 1 of 24 parameters\n")
    assert complaint.splitlines()[0].startswith("left out: 'bad0': ")
    assert complaint.splitlines()[20:] == ["left out: 3 more"]

    (tmp_path / "refs.json").unlink()
    code, _, complaint = run(*arguments, "--strict")

    assert code == 1
    assert complaint.startswith("lazyckpt: no reference can be made to 'bad0': ")
    assert not (tmp_path / "refs.json").exists()


def test_the_command_refuses_encrypted_files(run, tmp_path, monkeypatch):
    """And asks for no key, of which it had no use."""
    (tmp_path / "secret.ckpt").write_bytes(encrypted(checkpoint(TENSORS)))
    code, _, complaint = run("references", str(tmp_path / "secret.ckpt"), "-o", str(tmp_path / "refs.json"))

    assert code == 1
    assert "a reference leads to bytes as they stand in it: write a plain copy first" in complaint


def test_the_command_takes_distributed_checkpoints(run, tmp_path):
    """With their strategy."""
    name = next(name for name, (_, case) in CASES.items() if "strategy" in case and not problems(name))
    folder, case = CASES[name]
    code, told, _ = run(
        "references", str(folder / case["dir"]), "-o", str(tmp_path / "refs.json"), "--strategy",
        str(folder / case["strategy"]),
    )  # fmt: skip

    assert code == 0
    assert re.search(r"refs\.json: (\d+) of \1 parameters", told)


def test_a_pattern_that_matches_nothing_is_told(path, run, tmp_path):
    """Nothing is written."""
    code, _, complaint = run("references", str(path), "-o", str(tmp_path / "refs.json"), "--include", "nothing*")

    assert (code, complaint) == (1, "lazyckpt: no name matches --include\n")


@pytest.mark.parametrize("count", range(5))
def test_a_map_may_lack_its_last_arrays(count, tmp_path):
    """One that was cut has those that it has; one of none, or of one too many, is left out."""
    data = map_value("m", [counting((3,), "int32")] * count) + array_value("w", counting((2,)))
    with written(tmp_path, data) as ckpt:
        references = ckpt.references().to_dict()

    parts = [f"m~{part}" for part in ("keys", "values", "status")[:count]] if 0 < count <= 3 else []
    assert sorted(arrays(references)) == sorted([*parts, "w"])
    assert list(attributes(references).get(LEFT_OUT, {})) == ([] if parts else ["m"])
