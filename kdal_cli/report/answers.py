"""Answers about files, written as they come: a table, JSON lines, folders of links."""

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from kdal_cli.errors import MachineError, UserError
from kdal_cli.inference.answering import Answer
from kdal_cli.plain import plain_row
from kdal_cli.records.files import FOLDER_MODE

UNSURE = "unsure"
"""The folder of images that are not answered."""

LONGEST_NAME = 80
"""Characters of a folder that is named after a class."""


class Lines:
    """A file with a line for each row. The columns are those of the first row, unless `columns` says them."""

    def __init__(self, file: BinaryIO, *, jsonl: bool = False, columns: Sequence[str] = ()) -> None:
        self._file, self._jsonl = file, jsonl
        self._text = io.StringIO(newline="")
        self._table = csv.writer(self._text, lineterminator="\n")
        if columns and not jsonl:
            self._table.writerow(columns)
            self._flush()

    def add(self, row: dict[str, Any]) -> None:
        if self._jsonl:
            self._text.write(json.dumps(row) + "\n")
        else:
            self._table.writerow(json.dumps(v) if isinstance(v, bool) else v for v in plain_row(row).values())
        self._flush()

    def _flush(self) -> None:
        self._file.write(self._text.getvalue().encode(errors="backslashreplace"))
        self._text.seek(0)
        self._text.truncate()


def columns(top: int, *, sets: bool = False) -> list[str]:
    """The names of the columns of `row` where so many classes are named."""
    further = [f"{key}_{n}" for n in range(2, top + 1) for key in ("class", "probability")]
    return ["path", "class", "probability", "entropy", "unsure", *further, *(["set", "set_size"] if sets else [])]


def row(answer: Answer) -> dict[str, Any]:
    """A line of the table: the class, how sure that is, the classes that come next, and the set if there is one."""
    (first, probability), *others = answer.best
    told = {"path": str(answer.path), "class": first, "probability": round(probability, 6)}
    told |= {"entropy": round(answer.entropy, 6), "unsure": answer.unsure}
    for n, (name, p) in enumerate(others, 2):
        told |= {f"class_{n}": name, f"probability_{n}": round(p, 6)}
    if answer.among is not None:
        told |= {"set": "|".join(answer.among), "set_size": len(answer.among)}
    return told


class Sorted:
    """A folder with a folder for each class, in which links lead to the images of that answer."""

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        """Raises UserError where the folder is not new or empty."""
        try:
            folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise UserError(
                    "there are files in this folder", where=folder, cure="--sort takes a new or an empty one"
                )
        except OSError as error:
            raise UserError(
                f"cannot write here: {error.strerror}", where=folder, cure="choose another --sort"
            ) from None
        self._folder, self._names = folder, folder_names(classes)

    def add(self, answer: Answer) -> None:
        """Raises MachineError when the disk refuses."""
        place = self._folder / (UNSURE if answer.unsure else self._names[answer.best[0][0]])
        target, name = answer.path.absolute(), answer.path
        try:
            place.mkdir(FOLDER_MODE, exist_ok=True)
            for number in range(1, 1_000_000):
                again = f"_{number}" if number > 1 else ""
                try:
                    (place / f"{name.stem}{again}{name.suffix}").symlink_to(target)
                    return
                except FileExistsError:
                    continue
        except OSError as error:
            raise MachineError(f"cannot write: {error.strerror}", where=place, cure="make room") from None


def folder_names(classes: Sequence[str]) -> dict[str, str]:
    """{class: a name that a folder can have}, no two alike: the names of classes come from outside."""
    names: dict[str, str] = {}
    taken = {UNSURE}
    for number, name in enumerate(classes):
        plain = re.sub(r"[^\w .+-]", "_", name).strip(". ")[:LONGEST_NAME] or f"class_{number}"
        if plain.casefold() in taken:
            plain = f"{plain}_{number}"
        taken.add(plain.casefold())
        names[name] = plain
    return names
