"""Results as tables: numbers to the right, shares in % with two digits, units in the headers.

Cells are `rich.text.Text`, never markup: a class called `[red]x[/red]` is shown as such.
"""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from kdal_cli.plain import clean, plain_row
from kdal_cli.report.text import MISSING, count, number, percent

if TYPE_CHECKING:
    from kdal_cli.metrics.classification import PerClass

Cell = float | str | None
Row = Mapping[str, Cell]

_SHARES = {"accuracy", "agreement", "precision", "recall", "f1", "ece"}
_COUNTS = {"round", "labels", "images", "parameters", "flops", "images_per_s"}

MEASURES = {
    "accuracy": "accuracy %",
    "f1": "macro F1 %",
    "nll": "NLL nats",
    "ece": "ECE %",
    "parameters": "parameters",
    "flops": "FLOPs an image",
    "images_per_s": "images/s",
    "ms_1": "ms at batch 1",
    "ms_16": "ms at batch 16",
}
"""The rows of `models_table`, in their order, and what they are called there."""


def curve_table(rows: Sequence[Row], *, title: str | None = None) -> Table:
    """One line for each round: `rows` as the curve holds them, a column for each key, in the order of first appearance.

    Keys that end in the name of a share (`test_accuracy`, `agreement`, `val_ece`) are shown in %, `round`, `labels` and
    `images` as whole numbers, others with 2 or 4 decimals; what a row lacks, or has as None, as a dash.
    """
    table = plain_table(title)
    keys = _keys(rows)
    for key in keys:
        table.add_column(_text(_header(key)), justify="right")
    for row in rows:
        table.add_row(*(_cell(key, row.get(key)) for key in keys))
    return table


def fitting(rows: Sequence[Row], width: int, keep: Sequence[str]) -> tuple[list[Row], list[str]]:
    """(rows with as many columns as so many characters hold, the columns that are left out), the last ones first.

    keep: columns that are never left out.
    """
    keys = _keys(rows)
    widths = {key: max(len(_header(key)), *(len(_cell(key, row.get(key))) for row in rows)) + 2 for key in keys}
    left_out: list[str] = []
    for key in reversed([key for key in keys if key not in keep]):
        if sum(widths[each] for each in keys if each not in left_out) - 2 <= width:
            break
        left_out.insert(0, key)
    return [{key: value for key, value in row.items() if key not in left_out} for row in rows], left_out


def csv_text(rows: Sequence[Row]) -> str:
    """Rows as CSV, a column for each key; what a row lacks is empty. Nothing where there are no rows.

    Text that a spreadsheet would compute is guarded (`kdal_cli.plain`).
    """
    rows, text = [plain_row(row) for row in rows], io.StringIO()
    writer = csv.DictWriter(text, _keys(rows), lineterminator="\n")
    if rows:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def models_table(rows: Sequence[Row], *, title: str | None = None) -> Table:
    """Models side by side, a column for each of `rows`: its `model` is the name, the rest are measures.

    The measures of `MEASURES` come first, in that order; one that no model has is left out. `flops` are those of one
    image, with a multiply-add counted as two.
    """
    table = plain_table(title)
    table.add_column("")
    for row in rows:
        table.add_column(_text(row["model"]), justify="right")
    given = [key for key in _keys(rows) if key != "model"]
    for key in [*(key for key in MEASURES if key in given), *(key for key in given if key not in MEASURES)]:
        table.add_row(_text(MEASURES.get(key) or _header(key)), *(_cell(key, row.get(key)) for row in rows))
    return table


def per_class_table(classes: Sequence[str], scores: "PerClass", *, title: str | None = None) -> Table:
    """Precision, recall and F1 in % and the number of images of each class, in class order, and their macro average."""
    table = plain_table(title, show_footer=True)
    table.add_column("class", footer="macro average")
    for name, share in (("precision", scores.precision), ("recall", scores.recall), ("F1", scores.f1)):
        table.add_column(f"{name} %", footer=percent(float(share.mean())), justify="right")
    table.add_column("images", footer=count(int(scores.support.sum())), justify="right")
    columns = (scores.precision.tolist(), scores.recall.tolist(), scores.f1.tolist(), scores.support.tolist())
    for name, *shares, support in zip(classes, *columns, strict=True):
        table.add_row(_text(name), *map(percent, shares), count(support))
    return table


def plain_table(title: str | None = None, *, show_footer: bool = False) -> Table:
    return Table(
        title=_text(title) if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        show_footer=show_footer,
        collapse_padding=True,
        pad_edge=False,
    )


def _keys(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _header(key: str) -> str:
    return key.replace("_", " ").replace(".", " ") + (" %" if _last(key, _SHARES) else "")


def _cell(key: str, value: Cell) -> Text:
    """A value as its key asks for it."""
    if value is None:
        return Text(MISSING)
    if isinstance(value, str):
        return _text(value)
    return Text(_format(key, value)(value))


def _format(key: str, value: float) -> Callable[[float], str]:
    if not math.isfinite(value):
        return number
    if _last(key, _SHARES):
        return percent
    return count if isinstance(value, int) or _last(key, _COUNTS) else _decimal


def _decimal(value: float) -> str:
    """Four decimals up to 10, two above, so that the points of a column stand below each other."""
    if 1e-3 <= abs(value) < 1000 or value == 0:
        return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
    return number(value)


def _last(key: str, names: set[str]) -> bool:
    """Whether `key` is one of `names`, or ends in one: `test_accuracy` and `student.accuracy` are accuracies."""
    return any(key == name or key.endswith((f"_{name}", f".{name}")) for name in names)


def _text(value: object) -> Text:
    return Text(clean(value))
