"""What a report shows of run folders besides their curves: classes, pictures of what was bought, how they were made."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from kdal_cli.errors import UserError
from kdal_cli.plain import several
from kdal_cli.records.files import read_bytes, read_json
from kdal_cli.study.records import Record, table
from kdal_cli.study.study import Entry

SECONDS = ("teacher_s", "train_s", "score_s", "select_s", "evaluate_s", "baselines_s", "report_s")
"""Columns of `timings.csv` that add up."""


@dataclass(frozen=True)
class ClassScore:
    """A class at the last round, means over seeds: the share of its test images that is found, labels bought."""

    recall: float
    labels: float


@dataclass(frozen=True)
class Start:
    """How a run was started, once or again. commit: with `+ changes` where the working tree differed from it."""

    command: str
    versions: str
    machine: str
    commit: str


def per_class(entry: Entry) -> dict[int, ClassScore]:
    """{class: its scores} of a cell; empty for runs that do not measure classes."""
    found: dict[int, list[tuple[float, float]]] = {}
    for record in entry.cell.runs.values():
        for row in _last_round(record.folder / "classes.csv"):
            found.setdefault(int(row["class"]), []).append((row["test_recall"], row["labels"]))
    means = {name: [fmean(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    return {name: ClassScore(recall, labels) for name, (recall, labels) in sorted(means.items())}


def pace(entry: Entry) -> dict[str, float]:
    """Where the time of a cell's runs went, {column of `timings.csv`: mean over seeds}.

    Of one run, seconds are added up; images/s, MB and MFU are means over its trainings.
    """
    found: dict[str, list[float]] = {}
    for record in entry.cell.runs.values():
        rows = table(record.folder / "timings.csv")
        for name in rows[0] if rows else ():
            values = [row[name] for row in rows]
            found.setdefault(name, []).append(sum(values) if name in SECONDS else fmean(values))
    return {name: fmean(values) for name, values in found.items()}


def class_names(records: Iterable[Record]) -> list[str]:
    """The names of the classes, from the first checkpoint of a student."""
    for record in records:
        for card in sorted((record.folder / "checkpoints").glob("*.json")):
            about = read_json(card)
            if about.get("role") == "student" and about.get("classes"):
                return [str(name) for name in about["classes"]]
    return []


def sheets(entry: Entry) -> Iterator[tuple[int, int, Path]]:
    """(seed, round, picture) of the first and the last query after the seed set, of the first seed that has them."""
    for seed, record in sorted(entry.cell.runs.items()):
        pictures = sorted((record.folder / "picks").glob("round_*.png"))
        by_round = {int(path.stem.removeprefix("round_")): path for path in pictures}
        bought = [round for round in by_round if round > 0]
        if bought:
            yield from ((seed, round, by_round[round]) for round in dict.fromkeys((bought[0], bought[-1])))
            return


def starts(manifest: dict) -> Iterator[Start]:
    """How a run was started, from its manifest: the command, the versions, the machine and the commit."""
    for start in manifest.get("starts") or ():
        machine, git = start.get("machine") or {}, start.get("git") or {}
        versions = ", ".join(f"{name} {version}" for name, version in (start.get("versions") or {}).items())
        machine = {k: several(v, "thread") if k == "threads" else str(v) for k, v in machine.items()}
        commit = f"{git.get('commit') or 'unknown'}{' + changes' * bool(git.get('dirty'))}"
        yield Start(str(start.get("command", "")), versions, ", ".join(machine.values()), commit)


def manifests(records: Sequence[Record]) -> list[dict]:
    """The manifest of each run."""
    return [read_json(record.folder / "manifest.json") for record in records]


def _last_round(path: Path) -> list[dict[str, float]]:
    """The last lines of a table that has several a round, those of one round; nothing where there is no such file."""
    if not path.exists():
        return []
    head, *lines = read_bytes(path).decode(errors="replace").splitlines() or [""]
    last = lines[-1].partition(",")[0] if lines else ""
    kept = []
    for line in reversed(lines):
        if line.partition(",")[0] != last:
            break
        kept.append(line)
    try:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader([head, *reversed(kept)])]
    except (ValueError, TypeError) as error:
        raise UserError("this table is damaged", where=path, cure="leave this run out") from error
