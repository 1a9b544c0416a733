"""A value on its way from a source: what must be read, and what proves it once that is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from lazyckpt.formats.digest import Digesting
from lazyckpt.model.entry import Entry
from lazyckpt.sources.base import Request


class Fetch(NamedTuple):
    """A value on its way: `requests` must be filled, then `finish` proves the header and gives the value."""

    requests: list[Request]
    finish: Callable[[], Any]

    def alone(self) -> Fetch:
        """The same, whose `finish` gives a list of the one value."""
        return Fetch(self.requests, lambda: [self.finish()])


class Proof(NamedTuple):
    """Header bytes to be read, and the check of them."""

    entry: Entry
    file: str
    requests: list[Request]
    check: Callable[[], None]

    def then(self, requests: list[Request], value: Callable[[], Any], *, whole: bool = True) -> Fetch:
        """A fetch that gives `value()` once the header is proven, and the content if the index has a digest of it."""

        def finish() -> Any:
            self.check()
            if whole:
                check = Digesting(self.entry, self.file)
                for _, content in requests:
                    check.update(content)
                check.finish()
            return value()

        return Fetch([*self.requests, *requests], finish)
