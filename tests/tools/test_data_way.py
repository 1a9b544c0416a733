"""The ways of the data stay short: the modules that an open and a first look at a value pass, and the changes."""

import data_way
import pytest

# For each way, the most modules and the most changes. Six of the changes of an open are the pool of descriptors, which
# both files pass; one of the modules of a value is the reader that corrects an old index.
BARS = {"open": (17, 38), "value": (14, 26), "new shape": (16, 34)}


@pytest.fixture(scope="module")
def ways(tmp_path_factory):
    """The ways, measured once."""
    return data_way.measure(tmp_path_factory.mktemp("way"))


@pytest.mark.parametrize("name", BARS)
def test_a_way_is_short(name, ways):
    """A layer that only passes things on lengthens it, and fails here."""
    most_modules, most_changes = BARS[name]

    assert ways[name].modules <= most_modules
    assert ways[name].changes <= most_changes


def test_the_calls_are_those_of_the_package(ways):
    """The way of a value begins at the mapping and leads to the bytes of the file, by its index and its format."""
    modules = [call.module for call in ways["value"].calls]

    assert modules[0].startswith("checkpoint.")
    assert {"index.sidecar", "formats.ckpt", "sources.local"} <= set(modules)


def test_changes_are_counted_between_neighbours():
    """Calls within one module are no change."""
    calls = [data_way.Call(0, module, "f") for module in ("a", "a", "b", "a", "c", "c")]

    assert (data_way.Way(calls).modules, data_way.Way(calls).changes) == (3, 3)


def test_the_tool_prints_the_ways(capsys):
    """A line each, and the calls below it when they are asked for."""
    data_way.main([])
    short = capsys.readouterr().out
    data_way.main(["--calls"])

    assert [line[:10].strip() for line in short.splitlines()] == ["open", "value", "new shape"]
    assert "loading: load_checkpoint" in capsys.readouterr().out
