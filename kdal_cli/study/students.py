"""Which student to ship: what finished runs and the files exported from them are worth, and what they cost."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdal_cli.errors import UserError
from kdal_cli.records.files import read_json
from kdal_cli.study.records import FIGURE, Record

EXPORTED = Path("export", "export.json")
MOST = 100
"""Files of one run that are read."""

COSTS = ("ms", "mb", "labels")
"""What less of is better: milliseconds of one image, megabytes of the file, labels bought."""


@dataclass(frozen=True)
class Student:
    """A network as it could be shipped: `checkpoint`, which torch runs, or a file in another format.

    data: of which data set. accuracy: on the test set, of that very file. ms, mb, labels: nan where that is not known.
    """

    run: str
    form: str
    data: str
    accuracy: float
    ms: float
    mb: float
    labels: float

    @property
    def name(self) -> str:
        return f"{self.run} {self.form}"


def students(records: Sequence[Record]) -> list[Student]:
    """Every student of some runs; none where no run has exported a file: then nobody asks what to ship.

    Raises UserError for an export that is damaged.
    """
    found = [student for record in records for student in _of(record)]
    return found if any(student.form != "checkpoint" for student in found) else []


def front(of: Sequence[Student], costs: Sequence[str] = COSTS) -> list[Student]:
    """Those that no other of the same data set beats: as accurate, no cost higher, and better in something.

    One of which a cost is not known beats none in it, and is on no front.
    """
    known = [student for student in of if not any(math.isnan(getattr(student, cost)) for cost in costs)]
    return [one for one in known if not any(_beats(other, one, costs) for other in known if other.data == one.data)]


def _beats(one: Student, other: Student, costs: Sequence[str]) -> bool:
    pairs = [(one.accuracy, other.accuracy)] + [(-getattr(one, cost), -getattr(other, cost)) for cost in costs]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _of(record: Record) -> Iterator[Student]:
    accuracy = record.values(FIGURE.get(record.stage, "accuracy"))
    if not accuracy or math.isnan(accuracy[-1]):
        return
    labels, data = record.values("labels")[-1], str(record.settings.get("data.name"))
    name = "/".join(record.folder.parts[-2:])
    path = record.folder / EXPORTED
    rows = list(_rows(path)) if path.exists() else []
    if not rows:
        yield Student(name, "checkpoint", data, accuracy[-1], math.nan, _megabytes(record.folder), labels)
    for row in rows:
        yield Student(name, row["format"], data, row["test_accuracy"], row["ms_1"], row["mb"], labels)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    files = read_json(path).get("files")
    for row in files[:MOST] if isinstance(files, list) else [None]:
        if not isinstance(row, dict) or not isinstance(row.get("format"), str):
            raise UserError("this file is damaged", where=path, cure="export again, or leave this run out")
        if not row.get("refused") and row.get("test_accuracy") is not None:
            if not all(isinstance(row.get(key), int | float) for key in ("test_accuracy", "ms_1", "mb")):
                raise UserError("this file is damaged", where=path, cure="export again, or leave this run out")
            yield row


def _megabytes(folder: Path) -> float:
    """Of the last checkpoint of a run."""
    sizes = {path.name: path.stat().st_size for path in (folder / "checkpoints").glob("*.safetensors")}
    last: Iterable[str] = [name for name in ("student.safetensors", *sorted(sizes, reverse=True)) if name in sizes]
    return next((sizes[name] / 1e6 for name in last), math.nan)
