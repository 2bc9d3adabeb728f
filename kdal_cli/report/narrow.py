"""Tables on a terminal that is too narrow for them: columns are left out, figures are never cut."""

import textwrap
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

IMPORTANT = ("test accuracy %", "accuracy %", "verdict", "better by points", "student", "labels", "state")
"""Headers of columns that are left out last, the first of these after all others."""

LEAST = 24
"""Characters that a column of long names keeps."""


def narrowed(table: Table, console: Console) -> tuple[Table, list[str]]:
    """A table that fits the console, and the headers of what it lacks.

    First headers are written in several lines and names of more than LEAST characters are folded; then columns are left
    out, the last one first, those that are IMPORTANT at the end. The first column says what a row is about, and stays.
    """
    kept = list(table.columns)
    fitting = table
    while _width(fitting, console) > console.width and len(kept) > 1:
        if fitting is not table:
            kept.remove(_least(kept))
        fitting = _of(kept, table)
    return fitting, [str(column.header) for column in table.columns if column not in kept]


def _least(columns: Sequence[Column]) -> Column:
    def importance(column: Column) -> int:
        header = str(column.header)
        return IMPORTANT.index(header) if header in IMPORTANT else len(IMPORTANT)

    return max(reversed(columns[1:]), key=importance)


def _of(columns: Sequence[Column], like: Table) -> Table:
    """A table of some of the columns of another."""
    table = Table(
        title=like.title,
        title_justify=like.title_justify,
        box=like.box,
        show_edge=like.show_edge,
        show_footer=like.show_footer,
        collapse_padding=like.collapse_padding,
        pad_edge=like.pad_edge,
    )
    for column in columns:
        is_name = (column is columns[0] and column.justify == "left") or _widest(column) > LEAST
        header = textwrap.fill(str(column.header), max(_widest(column), 1), break_long_words=False)
        table.add_column(
            Text(header),
            column.footer,
            justify=column.justify,
            no_wrap=not is_name,
            overflow="fold" if is_name else "crop",
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*row)
    return table


def _widest(column: Column) -> int:
    return max((cell_len(str(cell)) for cell in [*column.cells, column.footer]), default=0)


def _width(table: Table, console: Console) -> int:
    """Characters that a table needs: all of it, or a few for names that may be folded."""
    whole = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    folded = [column for column in table.columns if column.overflow == "fold"]
    return whole - sum(max(0, _widest(column) - LEAST) for column in folded)
