"""What a checkpoint shows of itself: trees, tables and pictures. The work is done in `views`, on first need."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from lazyckpt.checkpoint.mapping import LazyMapping, Value
from lazyckpt.index.selection import AllNames
from lazyckpt.model.entry import Entry
from lazyckpt.parameter import Parameter
from lazyckpt.runtime.workers import Progress
from lazyckpt.tasks import Where

if TYPE_CHECKING:
    from lazyckpt.statistics.table import Statistics
    from lazyckpt.views.outline import Outline
    from lazyckpt.views.plot_accessor import Plots
    from lazyckpt.views.text import TreeView


class Viewing(LazyMapping):
    """See `Checkpoint`, whose part this is."""

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

        return TreeView(self._outline(), depth)

    def summary(self) -> dict[str, Any]:
        """Counts and bytes: in all, by dtype, of each top-level module, and the largest values. Plain data.

        Cost: as `tree`; the largest values are told of checkpoints of up to 20,000 names.
        """
        from lazyckpt.views.outline import summary_of

        return summary_of(self._outline(), None if self._is_large() else self._known())

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

        if names is not None:
            known = {name: self._measurable(name) for name in names}
        else:
            known = {name: v.asnumpy() if isinstance(v, Parameter) else v for name, v in self._known()}
        if scheduler is not None:
            from lazyckpt.statistics.spread import statistics_over

            places = {name: self.place_of(name) for name in known}
            return statistics_over(scheduler, self._payloads, known, places, progress)
        return statistics_of(self._payloads, known, workers, progress)

    @property
    def plot(self) -> Plots:
        """Pictures: `plot.sizes()`, `plot.hist(name)`, `plot.norms()`. They need matplotlib (`lazyckpt[plot]`).

        Cost: nothing by itself. `sizes` reads no value, `hist` one, `norms` all of them once.
        """
        from lazyckpt.views.plot_accessor import Plots

        return Plots(self._outline, self._measurable, self.stats, self._payloads)

    def _measurable(self, name: str) -> Any:
        value = self.peek(name)
        return value.asnumpy() if isinstance(value, Parameter) else value

    def _repr_html_(self) -> str:
        from lazyckpt.views.tree_html import tree_html

        if self._closed:
            from lazyckpt.display import facts_html

            return facts_html("closed checkpoint", [("path", self.path)])
        return tree_html(self._outline())

    def _is_large(self) -> bool:
        from lazyckpt.views.outline import EXACT

        return len(self) > EXACT

    def _outline(self) -> Outline:
        from lazyckpt.views.outline import of_groups, of_values

        self._check_open()
        label = os.path.basename(self.path)
        removed = len(self._removed)
        if not self._is_large():
            return of_values(label, self._known(), removed=removed)
        edited = self._in_memory()
        aside = {self._names.position(name) for name in (*self._removed, *edited)}
        places = None if isinstance(self._names, AllNames) else {self._names.position(name) for name in self._names}
        groups = self._index.tally(only=places, without=aside)  # type: ignore[arg-type]
        return of_groups(label, groups, edited.items(), removed)

    def _in_memory(self) -> dict[str, Value]:
        """The values that differ from the file's."""
        changed = {name: value for name, value in self._changed().items() if self._position(name) is not None}
        return {**changed, **self.edits()}

    def _known(self) -> Iterator[tuple[str, Entry | Value]]:
        """Names in order, with their values where these differ from the file's, else with their entries."""
        edited = self._in_memory()
        yield from ((name, edited.get(name, entry)) for name, entry in self._of_file())
        yield from self._appended.items()
