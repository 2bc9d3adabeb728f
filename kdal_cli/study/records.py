"""Run folders as they lie on disk, finished or not: what each was asked for, its curve, what it cost.

Standard library only: a thousand of them are read in a second or two.
"""

import csv
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kdal_cli.errors import KdalError, UserError
from kdal_cli.records import seals
from kdal_cli.records.files import read_bytes, read_json
from kdal_cli.values import flat

Value = str | float | bool | None
"""A setting; a list of several is kept as its JSON."""

FIGURE = {
    "al-loop": "test_accuracy",
    "distill": "student.accuracy",
    "train-teacher": "accuracy",
    "evaluate": "accuracy",
    "compress": "student.accuracy",
    "pretrain": "knn_accuracy",
}
"""The figure of a stage that runs are compared by, unless another is asked for."""

CURRENCIES = ("labels", "cost", "teacher_answers", "labels_with_teacher", "flops", "seconds")
"""What a run has spent by the end of a round: labels, their price, images a teacher was asked about, labels with those
that this teacher had itself, floating-point operations, and seconds of the teacher, training, scoring and selecting."""

TIMED = ("teacher_s", "train_s", "score_s", "select_s")


@dataclass(frozen=True)
class Record:
    """A run folder. settings: its configuration, {dotted key: value}. choices: {group: option}. sealed: whether a
    changed file of it would be found.

    rounds: one mapping a round of figures and currencies; a stage without rounds has one, of its result.
    """

    folder: Path
    stage: str
    seed: int
    done: bool
    settings: Mapping[str, Value]
    choices: Mapping[str, str]
    started: str
    rounds: list[dict[str, float]] = field(default_factory=list)
    result: Mapping[str, float] = field(default_factory=dict)
    sealed: bool = True

    def values(self, key: str) -> list[float]:
        """One figure or currency, round by round; of a round that lacks it, nan."""
        return [row.get(key, float("nan")) for row in self.rounds]

    @cached_property
    def keys(self) -> frozenset[str]:
        """The figures and currencies that every round has."""
        return frozenset.intersection(*(frozenset(row) for row in self.rounds)) if self.rounds else frozenset()


def find(paths: Iterable[Path]) -> list[Record]:
    """Every run at or below some folders, in the order of their names, each once.

    Raises UserError for a path that is no folder, or below which nothing has run.
    """
    folders: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise UserError("no such folder", where=path, cure="name a run, or a folder of runs")
        below = sorted(run_folders(path))
        if not below:
            raise UserError("nothing has run here", where=path, cure="name a run, or a folder of runs")
        for folder in below:
            folders.setdefault(folder.resolve(), folder)
    return [read(folder) for folder in folders.values()]


def run_folders(top: Path) -> Iterator[Path]:
    """The folders at or below `top` that hold a run; it is not looked for within a run."""
    for here, below, files in os.walk(top):
        if "manifest.json" in files:
            below.clear()
            yield Path(here)
        below[:] = [name for name in below if not name.startswith(".")]


def read(folder: Path) -> Record:
    """A run folder as it is now. Raises UserError naming a file that is not what was written there, or is too old."""
    seals.verify(folder)
    manifest = _json(folder / "manifest.json")
    result = _json(folder / "result.json") if (folder / "result.json").exists() else None
    try:
        stage, seed, settings = str(manifest["stage"]), int(manifest["seed"] or 0), settings_of(manifest["config"])
        chosen = manifest["choices"].items()
        choices = {group: option if isinstance(option, str) else "+".join(option or []) for group, option in chosen}
        started = str(manifest["starts"][0]["time"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        lacks = f"has no {error.args[0]}" if isinstance(error, KeyError) else "is damaged"
        where, cure = folder / "manifest.json", "leave this run out: it is damaged, or of an older kdal"
        raise UserError(f"this manifest {lacks}", where=where, cure=cure) from None
    rounds = _rounds(folder)
    if result is not None and stage == "al-loop" and not rounds:
        raise UserError("a finished run has lost its curve", where=folder / "curve.csv", cure="leave this run out")
    figures = {} if result is None else _figures(result, folder / "result.json")
    return Record(
        folder,
        stage,
        seed,
        result is not None,
        settings,
        choices,
        started,
        rounds or [figures] * bool(figures),
        figures,
        (folder / seals.NAME).exists(),
    )


def _figures(result: Mapping[str, Any], path: Path) -> dict[str, float]:
    try:
        return {key: float(value) for key, value in flat(result).items() if isinstance(value, int | float)}
    except (OverflowError, RecursionError) as error:
        raise UserError("this file is damaged", where=path, cure="leave this run out") from error


def settings_of(config: Mapping[str, Any]) -> dict[str, Value]:
    """A configuration as {dotted key: value}."""
    return {key: json.dumps(value) if isinstance(value, list) else value for key, value in flat(config).items()}


def _rounds(folder: Path) -> list[dict[str, float]]:
    """The lines of the curve, with the seconds that had passed by then."""
    rounds = table(folder / "curve.csv")
    timed = table(folder / "timings.csv")
    spent = [sum(row.get(key, 0.0) for key in TIMED) for row in timed]
    for row, seconds in zip(rounds, itertools.accumulate(spent), strict=False):
        row["seconds"] = seconds
    for row in rounds:
        if {"labels", "teacher_labels"} <= row.keys() and "labels_with_teacher" not in row:
            row["labels_with_teacher"] = row["labels"] + row["teacher_labels"]
    return rounds


def table(path: Path) -> list[dict[str, float]]:
    """The rows of a CSV file of numbers, none where there is no file. Raises UserError for a damaged one."""
    if not path.exists():
        return []
    try:
        rows = csv.DictReader(read_bytes(path, seals.LARGEST_TABLE).decode().splitlines())
        return [{k: float(v) for k, v in row.items()} for row in rows]
    except (ValueError, TypeError, csv.Error) as error:
        raise UserError("this table is damaged", where=path, cure="leave this run out") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except KdalError as error:
        raise UserError(error.what, where=path, cure="leave this run out, or restore the file from a copy") from error
