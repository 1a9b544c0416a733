"""Open files: what the reader and the checkpoint receive, and how another process opens the same."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
from checkpoints import MIXED, checkpoint, counting
from hypothesis import given
from items import values, written
from safetensors_files import file_of
from tracing import TracingSource

from lazyckpt import KeyReference
from lazyckpt.errors import WrongFormat
from lazyckpt.formats import FORMATS
from lazyckpt.index.build import MEMORY, open_indexed
from lazyckpt.index.open_file import Handle, OpenFile, in_memory, without_index
from lazyckpt.model.entry import Extent
from lazyckpt.reading.reader import FileReader
from lazyckpt.sources import BytesSource
from lazyckpt.sources.encryption.cipher import DEFAULT_MODE
from lazyckpt.sources.encryption.keys import NO_KEY

CKPT = FORMATS["ckpt"]
DATA = checkpoint(MIXED)


@given(values)
def test_bytes_in_memory_are_indexed_as_their_format_finds_them(values):
    """The index has every entry of a scan, in its order."""
    data, _ = written(values)
    file = in_memory(BytesSource(data), CKPT)

    assert list(file.index.entries()) == list(CKPT.scan(BytesSource(data)))


def test_bytes_in_memory_come_from_nowhere():
    """They have no origin, no handle and no sidecar, and their index was built now."""
    file = in_memory(BytesSource(DATA), CKPT)

    assert (file.origin, file.handle, file.index.path, file.was_indexed) == (None, None, None, False)


@pytest.mark.parametrize("name", FORMATS)
def test_bytes_of_another_format_are_refused(name):
    """Nothing is made of bytes that are of no format."""
    with pytest.raises(WrongFormat):
        in_memory(BytesSource(b"\x89HDF\r\n\x1a\n" + bytes(64)), FORMATS[name])


def test_the_fingerprint_of_bytes_in_memory_has_their_size():
    """They have no time of change, and are not sampled."""
    assert in_memory(BytesSource(DATA), CKPT).index.fingerprint == (len(DATA), 0, bytes(16))


def test_a_source_without_index_is_not_scanned():
    """Its index is empty, and no byte is read to make it."""
    source = TracingSource(DATA)
    file = without_index(source, CKPT)

    assert (list(file.index), len(file.index), source.reads) == ([], 0, [])


@pytest.mark.parametrize(
    ("form", "data"),
    [("ckpt", checkpoint({"w": counting((2, 3))})), ("safetensors", file_of({"w": counting((2, 3))}))],
    ids=["ckpt", "safetensors"],
)
def test_a_source_without_index_gives_values_of_entries_that_are_known(form, data):
    """A reader needs the entry and the bytes alone."""
    (entry,) = in_memory(BytesSource(data), FORMATS[form]).index.entries()
    reader = FileReader(without_index(BytesSource(data), FORMATS[form]))

    assert reader.copy(entry).tolist() == counting((2, 3)).tolist()


def test_closing_it_closes_the_bytes_and_the_index(monkeypatch):
    """Each once, the bytes first."""
    file = in_memory(BytesSource(DATA), CKPT)
    closed = []
    for part in (file.index, file.source):
        monkeypatch.setattr(part, "close", lambda part=part: closed.append(part))
    file.close()

    assert closed == [file.source, file.index]


def test_views_outlive_the_open_file(tmp_path):
    """An array that was read before it was closed keeps its values."""
    (tmp_path / "net.ckpt").write_bytes(checkpoint({"w": counting((1000,))}))
    file = open_indexed(str(tmp_path / "net.ckpt"), None, DEFAULT_MODE, MEMORY)
    view = FileReader(file).view(file.index["w"])
    file.close()

    assert view.tolist() == counting((1000,)).tolist()


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(OpenFile)])
def test_an_open_file_does_not_change(field):
    """What the reader holds and what the checkpoint holds stay the same."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(in_memory(BytesSource(DATA), CKPT), field, None)


@pytest.mark.parametrize("key", [NO_KEY, None, KeyReference(variable="KEY")], ids=["no key", "handed over", "a place"])
def test_a_handle_travels_as_a_pickle(key):
    """It is equal to what was sent, and has the same hash: open files are shared by it."""
    handle = Handle(open_indexed, ("net.ckpt", DEFAULT_MODE), key)
    received = pickle.loads(pickle.dumps(handle))

    assert (received, hash(received)) == (handle, hash(handle))


def test_a_handle_opens_the_same_file_again(tmp_path):
    """Called with its arguments and the key, its opener gives the same bytes and entries."""
    (tmp_path / "net.ckpt").write_bytes(DATA)
    first = open_indexed(str(tmp_path / "net.ckpt"), None, DEFAULT_MODE, MEMORY)
    handle = pickle.loads(pickle.dumps(first.handle))
    again = handle.opener(*handle.arguments, handle.key.read())

    whole = Extent(0, len(DATA))
    assert bytes(again.source.read(*whole)) == bytes(first.source.read(*whole)) == DATA
    assert list(again.index.entries()) == list(first.index.entries())
    for file in (first, again):
        file.close()
