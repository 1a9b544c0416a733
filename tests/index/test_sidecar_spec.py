"""docs/concepts/sidecar.md is right: a reader written from it alone reads lazyckpt's sidecars."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest
from checkpoints import (
    LAYERS,
    MIXED,
    array_value,
    checkpoint,
    counting,
    map_value,
    sliced_value,
    string_value,
    tensor_value,
)
from encryption import KEY, MODES, encrypted
from safetensors_files import file_of
from sidecar_spec import (
    APART,
    DTYPES,
    MAP,
    REFUSED,
    STRING,
    TENSOR,
    blocks_of,
    derived,
    facts_of,
    items_of,
    name_key,
    pages_of,
    record_of,
    sample_of,
    summary_of,
    u,
)

import lazyckpt
from lazyckpt.index.schema import LONGEST_PLAIN_NAME
from lazyckpt.model.dtypes import DTYPES as TABLE

LONG = "x" * (LONGEST_PLAIN_NAME + 1)


@pytest.fixture
def indexed(tmp_path):
    """Writes a file and its index; returns the keys and values found by the spec's reader, and the path."""

    def indexed(data, **options):
        path = tmp_path / "net.ckpt"
        path.write_bytes(data)
        lazyckpt.build_index(path, index_path=tmp_path / "index", **options).close()
        return dict(items_of(pages_of((tmp_path / "index").read_bytes()))), path

    return indexed


def test_the_summary_says_what_the_tree_says(indexed, tmp_path):
    """The summary has the tree's depth, keys, root and facts, so that opening an index reads no page."""
    items, _ = indexed(checkpoint(LAYERS))
    file = (tmp_path / "index").read_bytes()
    meta = max(pages_of(file)[:2], key=lambda page: u(page, 144, 8))

    assert summary_of(file) == meta[94:96] + meta[120:136] + items[b"\x04"]


def records(items):
    """The records of a sidecar, by place."""
    return [record_of(value) for key, value in items.items() if key[:1] == b"\x01"]


def test_facts_are_what_the_page_says(indexed):
    """Sizes, times, counts and the sample equal the file's."""
    data = checkpoint(LAYERS)
    items, path = indexed(data)

    found = facts_of(items[b"\x04"])

    fields = (found.flags, found.parameters, found.irregular, found.size, found.time, found.sample)
    assert fields == (0, len(LAYERS), 0, len(data), os.stat(path).st_mtime_ns, sample_of(data))
    assert (found.salt, found.check) == (bytes(16), bytes(16))


@pytest.mark.parametrize("size", [1, 1500, 5000])
def test_samples_are_what_the_page_says(indexed, size):
    """Samples follow the page for short files, for files whose ends overlap, and for long ones."""
    data = checkpoint({"w": np.arange(size, dtype="float32")})

    assert facts_of(indexed(data)[0][b"\x04"]).sample == sample_of(data)


def test_records_lead_to_the_values(indexed):
    """Names, dtypes and dims equal the written ones, and extents hold the bytes, in file order."""
    data = checkpoint(LAYERS)
    items, _ = indexed(data)

    found = {
        one.name: (one.kind, one.dtype, one.dims, b"".join(data[at : at + n] for at, n in one.extents))
        for one in records(items)
    }
    assert list(found) == list(LAYERS)
    assert found == {
        name: (TENSOR, str(array.dtype).capitalize(), array.shape, array.tobytes()) for name, array in LAYERS.items()
    }


def test_start_and_stop_are_the_parameters_own(indexed):
    """Parameters follow each other from the file's first byte to its last."""
    data = checkpoint(LAYERS)
    found = records(indexed(data)[0])

    assert [0, *(one.stop for one in found)] == [*(one.start for one in found), len(data)]


def test_names_lead_to_places(indexed):
    """Names, also long ones, lead to places."""
    names = ["b", "a", LONG]
    items, _ = indexed(checkpoint({name: counting((2,)) for name in names}))

    assert [u(items[name_key(name)], 0, 4, "big") for name in names] == [0, 1, 2]


def test_every_kind_of_parameter_is_written_as_the_page_says(indexed):
    """Strings, maps, refused parameters, and the keys of irregular ones follow the page."""
    tables = [counting((2,), "int32"), counting((2, 3)), counting((2,), "int32")]
    data = string_value("text", "ab") + map_value("table", tables) + tensor_value("bad", (2,), "Float32", bytes(3))
    items, _ = indexed(data)

    text, table, bad = records(items)
    assert (text.kind, text.dtype, sum(length for _, length in text.extents)) == (STRING, None, 8)
    assert table.kind == MAP
    assert [(dtype, dims, b"".join(data[at : at + n] for at, n in extents)) for dtype, dims, extents in table.rest] == [
        (str(array.dtype).capitalize(), array.shape, array.tobytes()) for array in tables
    ]
    assert (bad.kind, "3" in bad.rest) == (REFUSED, True)
    assert [key for key in items if key[:1] == b"\x03"] == [b"\x03" + (2).to_bytes(4, "big")]
    assert facts_of(items[b"\x04"]).irregular == 1


def test_a_name_that_comes_again_has_the_first_place(indexed):
    """A repeated name has its first place and its last record."""
    data = b"".join(array_value(name, counting((count,))) for name, count in [("a", 1), ("b", 2), ("a", 3)])

    assert [(one.name, one.dims) for one in records(indexed(data)[0])] == [("a", (3,)), ("b", (2,))]


def test_digests_are_of_the_contents(indexed):
    """Digests belong to contents, and a flag announces them."""
    items, _ = indexed(checkpoint(LAYERS), digest="blake2b")

    assert [one.digest for one in records(items)] == [
        hashlib.blake2b(array.tobytes(), digest_size=32).digest() for array in LAYERS.values()
    ]
    assert facts_of(items[b"\x04"]).flags == 1


def test_a_safetensors_header_stands_apart(indexed):
    """`start` and the rest of the record lead to the tensor's item in the file's header."""
    data = file_of({"w": counting((2, 3))})
    items, _ = indexed(data)

    (one,) = records(items)
    assert (one.kind, facts_of(items[b"\x04"]).flags) == (APART, 4)
    assert b'"w"' in data[one.start : one.start + one.rest]
    assert b"".join(data[at : at + n] for at, n in one.extents) == counting((2, 3)).tobytes()


def test_large_trees_and_large_records_are_read(indexed):
    """A tree of several levels, and values in overflow pages, are read."""
    many = {f"layer.{number}.weight": np.array([number], "int64") for number in range(3000)}
    sliced = sliced_value("sliced", counting((200,)), [4] * 200)
    items, _ = indexed(checkpoint(many) + sliced)

    found = records(items)
    assert [one.name for one in found] == [*many, "sliced"]
    assert len(found[-1].extents) == 200
    assert max(map(len, items.values())) > 2000


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sealed", [True, False])
def test_sealed_sidecars_open_as_the_page_says(indexed, mode, sealed):
    """The keys derived as on the page open the sidecar, and the table of blocks leads to the ciphertexts."""
    plain = checkpoint(MIXED)
    data = encrypted(plain, mode, block=128)
    items, _ = indexed(data, dec_key=KEY, dec_mode=mode, sealed=sealed)

    facts = facts_of(items[b"\x04"])
    key = derived(KEY, facts.salt)
    opened = {at: key.opened(at, value) if sealed else value for at, value in items.items() if at[:1] == b"\x01"}
    names = [record_of(value).name for value in opened.values()]
    assert (facts.flags, facts.check, facts.size, facts.sample) == (2 * sealed, key.check, len(data), sample_of(data))
    assert names == list(MIXED)
    places = [items[key.of_name(name) if sealed else name_key(name)] for name in names]
    assert [u(place, 0, 4, "big") for place in places] == list(range(len(names)))
    blocks = blocks_of(key.opened(b"\x05", items[b"\x05"]))
    assert sum(block[1] for block in blocks) == len(plain)
    assert blocks[-1][2] + blocks[-1][3] == len(data)


def test_the_number_of_keys_is_what_the_page_says(indexed):
    """There are two keys per parameter, one for the facts, and one for an encrypted file's blocks."""
    plain, sealed = indexed(checkpoint(LAYERS))[0], indexed(encrypted(checkpoint(LAYERS)), dec_key=KEY)[0]

    assert (len(plain), len(sealed)) == (2 * len(LAYERS) + 1, 2 * len(LAYERS) + 2)


def test_the_pages_table_of_dtypes_is_the_codes():
    """The table has every dtype with its code."""
    assert {dtype.code: dtype.name for dtype in TABLE.values()} == DTYPES
