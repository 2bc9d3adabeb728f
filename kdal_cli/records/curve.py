"""A metric against labels bought: the result of a run, one line a round."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from kdal_cli.errors import UserError
from kdal_cli.records import seals

Row = Mapping[str, float]


class Table:
    """A CSV file that grows by whole rows, is sealed and replaced atomically; the first row names the columns.

    Whole numbers are written as such, others with six decimals, so that equal results are equal bytes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        if path.exists():
            self.rows = _read(path)

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, *rows: Row) -> None:
        """Append rows; they are durable on return, and kept as the file has them."""
        self.rows += [{key: _number(_text(value)) for key, value in row.items()} for row in rows]
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _text(value) for key, value in row.items()} for row in self.rows)
        seals.write(self.path, text.getvalue().encode())

    def keep(self, rows: int) -> None:
        """Forget what a stopped run wrote beyond its first `rows` rows; the next `add` makes it durable."""
        del self.rows[rows:]

    def column(self, name: str) -> Sequence[float]:
        return [row[name] for row in self.rows]


def _read(path: Path) -> list[dict[str, float]]:
    """The rows of a file. Raises UserError naming it when it is not what was written there."""
    try:
        header, *lines = csv.reader(io.StringIO(seals.read(path).decode()), strict=True)
        return [{key: _number(text) for key, text in zip(header, line, strict=True)} for line in lines]
    except (ValueError, csv.Error) as error:
        cure = "restore it from a copy, or start a new run"
        raise UserError("this table is damaged", where=path, cure=cure) from error


def _text(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6f}"


def _number(text: str) -> float:
    return int(text) if text.lstrip("-").isdigit() else float(text)
