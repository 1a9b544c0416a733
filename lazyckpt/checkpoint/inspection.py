"""`CheckpointInspection`: trees, tables and pictures of a checkpoint. `views` and `statistics` do the work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from lazyckpt.checkpoint.access import CheckpointAccess
from lazyckpt.index.selection import AllNames
from lazyckpt.parameter import Parameter
from lazyckpt.tasks import Where

if TYPE_CHECKING:
    from lazyckpt.statistics.table import Statistics
    from lazyckpt.views.outline import Outline
    from lazyckpt.views.plot_accessor import Plots
    from lazyckpt.views.text import TreeView

Progress = Callable[[int, int], object]


class CheckpointInspection:
    """The part of `Checkpoint` that shows what is in it. It needs nothing of a checkpoint but its `_access`."""

    @property
    def _access(self) -> CheckpointAccess:
        raise NotImplementedError

    def tree(self, depth: int | None = None) -> TreeView:
        """The names as a tree, numbered siblings that are alike folded into one, with totals at each node.

        Args:
            depth: levels that are shown; None for as many as there is room for. `select(prefix).tree()` shows a part.

        Returns:
            What prints as text and shows as HTML in a notebook; `to_dict()` gives plain data.

        Cost: reads no value. Up to 20,000 names are looked at each, at about 10 us; above, names that differ only in
        numbers are counted together: half a second for a million. Totals are exact in both cases.
        """
        from lazyckpt.views.text import TreeView

        return TreeView(_outline(self._access), depth)

    def summary(self) -> dict[str, Any]:
        """Counts and bytes: in all, by dtype, of each top-level module, and the largest values. Plain data.

        Cost: as `tree`; the largest values are told of checkpoints of up to 20,000 names.
        """
        from lazyckpt.views.outline import summary_of

        access = self._access
        return summary_of(_outline(access), None if _is_large(access) else access.iter_edited())

    def stats(
        self,
        names: Iterable[str] | None = None,
        *,
        workers: int | None = None,
        progress: Progress | None = None,
        scheduler: Where = None,
    ) -> Statistics:
        """Count, minimum, maximum, mean, standard deviation, L2 norm, zeros, NaNs and infinities of each value.

        Args:
            names: which; None for all.
            workers: threads; None for as many as pay, 1 for none.
            progress: called as `progress(done, total)` with byte counts.
            scheduler: a dask `Client` or a `concurrent.futures.Executor` whose workers read the file, under the same
                path, and measure it: tasks of about 64 MiB, also of one large value. The numbers are the same to the
                last bit wherever numpy computes alike (another kind of processor may sum in another order). Digests
                of values above 64 MiB are not compared then.

        Returns:
            A table in the order of `names`. Minimum and maximum ignore NaN; mean, deviation and norm are of the finite
            numbers. A map has a row for each of its arrays; a string has one that says that it was not measured.

        Raises:
            KeyError: a name is not there; nothing is read then.
            NotPicklable: workers cannot open it; see `__reduce__`.

        Cost: reads each value once, in file order; some MiB of memory a thread, however large a tensor is (a map is
        held whole). Of an encrypted file each block is decrypted once, but for some that may be twice.
        """
        from lazyckpt.statistics.stream import statistics_of

        access = self._access
        if names is not None:
            values = {name: _measurable(access, name) for name in names}
        else:
            values = {name: _as_array(value) for name, value in access.iter_edited()}
        if scheduler is not None:
            from lazyckpt.statistics.spread import statistics_over

            ordinals = {name: access.position(name) for name in values}
            return statistics_over(scheduler, access.reader, values, ordinals, progress)
        return statistics_of(access.reader, values, workers, progress)

    @property
    def plot(self) -> Plots:
        """Pictures: `plot.sizes()`, `plot.hist(name)`, `plot.norms()`. They need matplotlib (`lazyckpt[plot]`).

        Cost: nothing by itself. `sizes` reads no value, `hist` one, `norms` all of them once.
        """
        from lazyckpt.views.plot_accessor import Plots

        access = self._access
        return Plots(lambda: _outline(access), lambda name: _measurable(access, name), self.stats, access.reader)

    def _repr_html_(self) -> str:
        from lazyckpt.views.tree_html import tree_html

        access = self._access
        if access.stored.is_closed:
            from lazyckpt.display import facts_html

            return facts_html("closed checkpoint", [("path", access.stored.source.name)])
        return tree_html(_outline(access))


def _as_array(value: Any) -> Any:
    return value.asnumpy() if isinstance(value, Parameter) else value


def _measurable(access: CheckpointAccess, name: str) -> Any:
    """An entry, or a value in memory as an array."""
    return _as_array(access.value_or_entry(name))


def _is_large(access: CheckpointAccess) -> bool:
    """Whether names are counted in groups, and not looked at each."""
    from lazyckpt.views.outline import EXACT

    return len(access.overlay) > EXACT


def _outline(access: CheckpointAccess) -> Outline:
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
    groups = stored.index.tally(only=seen, without=aside)
    return of_groups(label, groups, edited.items(), len(removed))
