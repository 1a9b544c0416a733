"""`ckpt.plot`: collects the data for a plot; `plots`, which draws it, is imported on first use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from lazyckpt.errors import ArgumentTypeError
from lazyckpt.model.entry import TENSOR, Entry
from lazyckpt.model.patterns import Pattern, Patterns
from lazyckpt.reading.reader import Reader
from lazyckpt.runtime.optional import optional_import
from lazyckpt.statistics.stream import rows_of
from lazyckpt.statistics.table import Statistics
from lazyckpt.views.outline import Outline

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Plots:
    """Plots of a checkpoint, as matplotlib Figures, which notebooks show and `savefig` writes. Needs matplotlib."""

    def __init__(
        self,
        outline: Callable[[], Outline],
        peek: Callable[[Pattern], tuple[str, Any]],
        stats: Callable[[Patterns | None], Statistics],
        payloads: Reader,
        allow: Callable[[str], object],
    ) -> None:
        """Not for users: see `Checkpoint.plot`."""
        self._outline = outline
        self._peek = peek
        self._stats = stats
        self._payloads = payloads
        self._allow = allow

    def sizes(self) -> Figure:
        """A treemap of sizes in bytes. Reads no value.

        Raises:
            MissingPackage: matplotlib is not installed.
        """
        with optional_import("plot"):
            from lazyckpt.views import plots

        return plots.sizes_picture(self._outline()).kept_from(self._allow)

    def hist(self, name: Pattern) -> Figure:
        """A histogram of the numbers of one tensor.

        Args:
            name: its name, or a pattern that only its name matches (see `Checkpoint.select`).

        Raises:
            MissingPackage: matplotlib is not installed.
            MissingName: nothing matches (a `KeyError`).
            ArgumentValueError: several names match.
            ArgumentTypeError: it is not a tensor.

        Cost: reads the value twice, a few MiB at a time.
        """
        with optional_import("plot"):
            from lazyckpt.views import plots

        name, value = self._peek(name)
        if not (isinstance(value, np.ndarray) or (isinstance(value, Entry) and value.kind == TENSOR)):
            kind = value.kind if isinstance(value, Entry) else type(value).__name__
            raise ArgumentTypeError(f"{name!r} is a {kind}: there is a histogram of tensors only")
        (row,) = rows_of(self._payloads, name, value)
        if row.skipped:
            raise ArgumentTypeError(f"{name!r} cannot be drawn: {row.skipped}")
        picture = plots.hist_picture(name, row.dtype, row.shape, row.moments, self._pieces(value))
        return picture.kept_from(self._allow)

    def norms(self, names: Patterns | None = None) -> Figure:
        """The L2 norms of values, in file order.

        Args:
            names: names or patterns, as for `Checkpoint.select`; None for all.

        Raises:
            MissingPackage: matplotlib is not installed.
            MissingName: a pattern matches nothing (a `KeyError`); nothing is read then.

        Cost: reads each value once, as `Checkpoint.stats`.
        """
        with optional_import("plot"):
            from lazyckpt.views import plots

        return plots.norms_picture(self._outline().root.label, self._stats(names)).kept_from(self._allow)

    def _pieces(self, value: Any) -> Iterator[Any]:
        if isinstance(value, Entry):
            yield from self._payloads.pieces(value) if 0 not in value.shape else ()
        else:
            flat = value.reshape(-1)
            yield from (flat[start : start + 2**20] for start in range(0, flat.size, 2**20))
