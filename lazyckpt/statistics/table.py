"""Statistics as a table that prints, renders, sorts, and exports data, CSV, JSON and pandas."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lazyckpt.display import json_text, printable
from lazyckpt.errors import ArgumentValueError
from lazyckpt.model.similar_names import missing
from lazyckpt.runtime.atomic_write import atomic_write, file_errors
from lazyckpt.runtime.folders import resolved_output
from lazyckpt.statistics.moments import Moments

if TYPE_CHECKING:
    from rich.text import Text

SHOWN: Final = 200  # rows that are printed
Where = str | os.PathLike[str]


class Row(NamedTuple):
    """The statistics of one value.

    Attributes:
        name: of the parameter; `[keys]`, `[values]` or `[status]` is appended for an array of a map.
        dtype: MindSpore's name.
        shape: the dimensions.
        moments: the numbers (see `Moments`).
        skipped: why it was not measured, else empty.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    moments: Moments
    skipped: str = ""

    def to_dict(self) -> dict[str, Any]:
        """All columns; None where a column does not apply."""
        return {column: read(self) for column, read in COLUMNS.items()}


def _number(read: Callable[[Moments], Any], needs: str = "finite") -> Callable[[Row], Any]:
    """A column that is None if there are no numbers to compute it from."""
    return lambda row: None if row.skipped or not getattr(row.moments, needs) else read(row.moments)


def _count(read: Callable[[Moments], int]) -> Callable[[Row], Any]:
    return lambda row: None if row.skipped else read(row.moments)


COLUMNS: Final[dict[str, Callable[[Row], Any]]] = {
    "name": lambda row: row.name,
    "dtype": lambda row: row.dtype,
    "shape": lambda row: list(row.shape),
    "count": _count(lambda moments: moments.count),
    "min": _number(lambda moments: moments.low, "count"),
    "max": _number(lambda moments: moments.high, "count"),
    "mean": _number(lambda moments: moments.mean),
    "std": _number(lambda moments: moments.std),
    "norm": _number(lambda moments: moments.norm),
    "zeros": _count(lambda moments: moments.zeros),
    "nan": _count(lambda moments: moments.nan),
    "inf": _count(lambda moments: moments.inf),
    "skipped": lambda row: row.skipped,
}
PRINTED: Final = ("name", "dtype", "shape", "min", "max", "mean", "std", "norm", "zeros", "nan", "inf")
# Beginnings of what spreadsheets take for formulas, those of full width as well.
_FORMULA: Final = re.compile(r"['\s]*[=+\-@\uff1d\uff0b\uff0d\uff20]|'*[\t\r\n]")
_SEPARATORS: Final = frozenset(',;|"\t\r\n')
_LEFT: Final = {"name", "dtype", "shape"}


class Statistics(Sequence[Row]):
    """A table of statistics: one row per value, in the order of the request. Immutable.

    `min` and `max` ignore NaN; `mean`, `std` and `norm` use the finite numbers; `nan` and `inf` count the others.
    """

    def __init__(self, rows: Iterable[Row], allow: Callable[[str], object] | None = None) -> None:
        """Keep rows.

        Args:
            rows: in order.
            allow: called with a path before a file is written to it; raises if a file there must be kept.
        """
        self._rows = tuple(rows)
        self._allow = allow

    def kept_from(self, allow: Callable[[str], object]) -> Statistics:
        """The same rows, never written to a path that `allow` refuses."""
        return Statistics(self._rows, allow)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def __getitem__(self, key: Any) -> Any:
        """A row by its name or its ordinal; a slice gives a table."""
        if isinstance(key, slice):
            return Statistics(self._rows[key], self._allow)
        if isinstance(key, str):
            for row in self._rows:
                if row.name == key:
                    return row
            raise missing(key, [row.name for row in self._rows], is_exact=True)
        return self._rows[key]

    def sort(self, by: str = "norm", *, descending: bool | None = None) -> Statistics:
        """The same rows, sorted by a column; rows without a number there come last.

        Args:
            by: a column.
            descending: largest first; None to sort numbers so, and words the other way.

        Raises:
            ArgumentValueError: the column does not exist.
        """
        if by not in COLUMNS:
            raise ArgumentValueError(f"there is no column {by!r}; one of {', '.join(COLUMNS)} is needed")
        read = COLUMNS[by]
        largest_first = by not in {*_LEFT, "skipped"} if descending is None else descending
        numbered = [(read(row), row) for row in self._rows]
        known = [
            (abs(value) if isinstance(value, complex) else value, row) for value, row in numbered if value is not None
        ]
        known.sort(key=lambda pair: pair[0], reverse=largest_first)
        rows = [*(row for _, row in known), *(row for value, row in numbered if value is None)]
        return Statistics(rows, self._allow)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Name -> column -> value, as plain data (a complex mean is a Python complex)."""
        return {row.name: {key: value for key, value in row.to_dict().items() if key != "name"} for row in self._rows}

    def to_json(self, path: Where | None = None) -> str | None:
        """A JSON list of objects; infinities are the strings `inf` and `-inf`.

        Args:
            path: a file to write it to, atomically; None to return it.

        Raises:
            MissingFolder, FolderInTheWay, UnwritableFile: the file cannot be written. An old file stays.
            FileInTheWay: the path is the checkpoint itself.
        """
        return self._given(json_text(self.plain()), path)

    def plain(self) -> list[dict[str, Any]]:
        """Rows as JSON data: a complex mean is two numbers, an infinity the string `inf` or `-inf`."""
        return [{key: _jsonable(value) for key, value in row.to_dict().items()} for row in self._rows]

    def to_csv(self, path: Where | None = None, *, formulas: bool = False) -> str | None:
        """CSV with a heading; shapes as `2x3`, and empty cells where a column does not apply.

        A spreadsheet takes a text that begins with `=`, `+`, `-`, `@`, a tab or a line end for a formula, and runs it.
        A `'` before such a text makes it text. Texts that begin with `'` and go on like that get one as well, so that
        one `'` is taken off where the rest begins like a formula, to have the names as they are in the file.

        Args:
            path: a file to write it to, atomically; None to return it.
            formulas: leave all texts as they are, for readers other than spreadsheets.

        Raises:
            MissingFolder, FolderInTheWay, UnwritableFile: the file cannot be written. An old file stays.
            FileInTheWay: the path is the checkpoint itself.
        """
        rows = ([*({**row.to_dict(), "shape": "x".join(map(str, row.shape))}).values()] for row in self._rows)
        cells = rows if formulas else ([_as_text(cell) for cell in row] for row in rows)
        return self._given("".join(map(_csv_line, [list(COLUMNS), *cells])), path)

    def to_pandas(self) -> Any:
        """A pandas DataFrame with the names as its index.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas as pd

        frame = pd.DataFrame([row.to_dict() for row in self._rows], columns=list(COLUMNS))
        return frame.set_index("name")

    def __str__(self) -> str:
        return "\n".join([*self._lines(), *filter(None, [self._remark()])])

    __repr__ = __str__

    def __rich__(self) -> Text:
        """For `rich.print`: the same lines in colour."""
        from rich.text import Text

        head, *lines = self._lines()
        return Text("\n").join([Text(head, "bold"), *map(Text, lines), *map(Text, filter(None, [self._remark()]))])

    def _repr_html_(self) -> str:
        from lazyckpt.display import table_html

        counted = f"{len(self):,} {'value' if len(self) == 1 else 'values'}"
        return table_html(f"Statistics of {counted}", PRINTED, self._cells(), self._remark())

    def _lines(self) -> list[str]:
        cells = [list(PRINTED), *self._cells()]
        widths = [max(len(row[column]) for row in cells) for column in range(len(PRINTED))]
        return [
            "  ".join(
                f"{cell:<{width}}" if column in _LEFT else f"{cell:>{width}}"
                for column, cell, width in zip(PRINTED, row, widths, strict=True)
            ).rstrip()
            for row in cells
        ]

    def _cells(self) -> list[list[str]]:
        return [_cells_of(row) for row in self._rows[:SHOWN]]

    def _given(self, text: str, path: Where | None) -> str | None:
        if path is None:
            return text
        target = resolved_output(os.fspath(path))
        if self._allow is not None:
            self._allow(target)
        content = text.encode("utf-8", "surrogatepass")
        with file_errors(target):
            atomic_write(target, lambda private: Path(private).write_bytes(content))
        return None

    def _remark(self) -> str:
        left = len(self) - SHOWN
        return f"… and {left:,} more: sort(), to_csv(), to_pandas() have them all" if left > 0 else ""


def _cells_of(row: Row) -> list[str]:
    if row.skipped:
        return [printable(row.name), row.dtype, printable(f"({row.skipped})"), *[""] * (len(PRINTED) - 3)]
    return [_cell(column, COLUMNS[column](row)) for column in PRINTED]


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    if column == "shape":
        return " × ".join(map(str, value)) or "scalar"
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, int):
        return f"{value:,}" if column in {"zeros", "nan", "inf"} else str(value)
    return f"{value:.4g}"


def _jsonable(value: Any) -> Any:
    if isinstance(value, complex):
        return [_jsonable(value.real), _jsonable(value.imag)]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _as_text(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula. Numbers stay."""
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def _csv_line(cells: Iterable[Any]) -> str:
    return ",".join(_csv_cell("" if cell is None else str(cell)) for cell in cells) + "\n"


def _csv_cell(text: str) -> str:
    """A cell, quoted if it holds a separator, also one of those that some spreadsheets take for a comma."""
    return '"' + text.replace('"', '""') + '"' if _SEPARATORS & set(text) else text
