"""`CheckpointInspection`: trees, tables and pictures of a checkpoint. `views` and `statistics` do the work."""

from __future__ import annotations

import os
from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any

from lazyckpt.checkpoint.access import CheckpointAccess
from lazyckpt.index.matching import require_one
from lazyckpt.index.selection import AllNames
from lazyckpt.model.patterns import Pattern, Patterns
from lazyckpt.parameter import Parameter
from lazyckpt.runtime.workers import Progress
from lazyckpt.sources.base import LocalFile
from lazyckpt.tasks import Where

if TYPE_CHECKING:
    from lazyckpt.statistics.table import Statistics
    from lazyckpt.views.outline import Outline
    from lazyckpt.views.plot_accessor import Plots
    from lazyckpt.views.text import TreeView


class CheckpointInspection:
    """The part of `Checkpoint` that shows its content. It uses only `_access`."""

    @property
    @abstractmethod
    def _access(self) -> CheckpointAccess:
        """See `Checkpoint._access`."""

    def tree(self, depth: int | None = None) -> TreeView:
        """The names as a tree: identical numbered siblings are folded, and each node has totals.

        >>> ckpt = lazyckpt.load_checkpoint("LeNet5-1_32.ckpt")
        >>> print(ckpt.select("fc3").tree())  # doctest: +ELLIPSIS
        LeNet5-1_32.ckpt  2 values · 3.3 KiB...

        Args:
            depth: number of levels; None to show as many as there is room for. `select(…).tree()` shows a part.

        Returns:
            An object that prints as text, shows as HTML in a notebook, and has plain data in `to_dict()`.

        Cost: reads no value. Up to 20,000 names, about 10 us each; above that, names that differ only in their numbers
        are counted together: half a second for a million. Totals are exact in both cases.
        """
        from lazyckpt.views.text import TreeView

        return TreeView(_outline(self._access), depth)

    def summary(self) -> dict[str, Any]:
        """Totals by dtype and by top-level module, and the largest values, as plain data.

        Cost: as `tree`; the largest values are listed for checkpoints of up to 20,000 names.
        """
        from lazyckpt.views.outline import summary_of

        access = self._access
        return summary_of(_outline(access), None if _is_large(access) else access.iter_edited())

    def stats(
        self,
        names: Patterns | None = None,
        *,
        workers: int | None = None,
        progress: Progress | None = None,
        scheduler: Where = None,
    ) -> Statistics:
        """Count, minimum, maximum, mean, standard deviation, L2 norm, zeros, NaNs and infinities of each value.

        Args:
            names: names or patterns, as for `Checkpoint.select`; None for all.
            workers: number of threads; None to choose by the amount of data, 1 for the calling thread only.
            progress: called as `progress(done, total)` with byte counts.
            scheduler: a dask `Client` or a `concurrent.futures.Executor`. Its workers open the file under the same
                path, and measure about 64 MiB per task; a large value is split. The numbers are the same to the last
                bit on the same kind of processor (another kind may sum in another order). Digests of values above
                64 MiB are not compared then.

        Returns:
            A table in the order of `names`. Minimum and maximum ignore NaN; mean, deviation and norm use the finite
            numbers. A map has one row per array; a string has a row that says why it was not measured.

        Raises:
            MissingName: a pattern matches nothing (a `KeyError`); nothing is read then.
            NotPicklable: workers cannot open it; see `__reduce__`.

        Cost: reads each value once, in file order, with a few MiB of memory per thread however large a tensor is (a
        map is held in memory). In an encrypted file each block is decrypted once, and a few of them twice.
        """
        from lazyckpt.statistics.stream import statistics_of

        access = self._access
        if names is not None:
            values = {name: _as_array(value) for name, value in access.matching(names).items()}
        else:
            values = {name: _as_array(value) for name, value in access.iter_edited()}
        if scheduler is not None:
            from lazyckpt.statistics.spread import statistics_over

            ordinals = {name: access.position(name) for name in values}
            table = statistics_over(scheduler, access.reader, values, ordinals, progress)
        else:
            table = statistics_of(access.reader, values, workers, progress)
        return table.kept_from(partial(_check_output, access.reader.files))

    @property
    def plot(self) -> Plots:
        """Plots: `plot.sizes()`, `plot.hist(name)`, `plot.norms()`. They need matplotlib (`lazyckpt[plot]`).

        Cost: nothing by itself. `sizes` reads no value, `hist` one, `norms` all of them once.
        """
        from lazyckpt.views.plot_accessor import Plots

        access = self._access
        allow = partial(_check_output, access.reader.files)
        return Plots(lambda: _outline(access), lambda name: _one(access, name), self.stats, access.reader, allow)

    def _repr_html_(self) -> str:
        from lazyckpt.views.tree_html import tree_html

        access = self._access
        if access.stored.is_closed:
            from lazyckpt.display import facts_html

            return facts_html("closed checkpoint", [("path", access.stored.source.name)])
        return tree_html(_outline(access))


def _check_output(files: tuple[LocalFile, ...], path: str) -> None:
    """Refuse to write a table or a picture over a file that it was made of."""
    from lazyckpt.writing.targets import check_report

    check_report(path, files)


def _as_array(value: Any) -> Any:
    return value.asnumpy() if isinstance(value, Parameter) else value


def _one(access: CheckpointAccess, pattern: Pattern) -> tuple[str, Any]:
    """The one name that matches a pattern, and its entry, or its value in memory (a Parameter as an array)."""
    name = require_one(access.names, pattern)
    return name, _as_array(access.value_or_entry(name))


def _is_large(access: CheckpointAccess) -> bool:
    """Whether there are so many names that they are counted in groups."""
    from lazyckpt.views.outline import EXACT

    return len(access.overlay) > EXACT


def _outline(access: CheckpointAccess) -> Outline:
    from lazyckpt.index.name_groups import tally
    from lazyckpt.views.outline import of_groups, of_values

    stored, removed = access.stored, access.overlay.removed
    stored.check_open()
    label = os.path.basename(stored.source.name)
    if not _is_large(access):
        return of_values(label, access.iter_edited(), removed=len(removed))
    edited = access.edited()
    aside = {ordinal for name in (*removed, *edited) if (ordinal := stored.position(name)) is not None}
    seen = None
    if not isinstance(stored.names, AllNames):
        seen = {ordinal for name in stored.names if (ordinal := stored.position(name)) is not None}
    groups = tally(stored.index, only=seen, without=aside)
    return of_groups(label, groups, edited.items(), len(removed))
