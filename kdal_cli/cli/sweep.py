"""A sweep: what became of each of its jobs, written as they end, and one table over all of them.

Each job adds a line to `jobs.jsonl` in the sweep's folder, whichever process it ran in; `summary.csv` is made from
these lines and from the results of the runs, again and again.
"""

import csv
import fcntl
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from kdal_cli.cli.about import About
from kdal_cli.cli.outcome import Escape
from kdal_cli.errors import KdalError, UserError, Waiting
from kdal_cli.plain import plain_row
from kdal_cli.records.files import append, hold, opened, read_bytes, refusals, write_bytes
from kdal_cli.records.folders import enter, is_empty
from kdal_cli.records.seals import read_object
from kdal_cli.values import flat

if TYPE_CHECKING:
    from kdal_cli.report.display import Display

SHOWN = ("labels", "test_accuracy", "test_f1", "teacher.accuracy", "student.accuracy", "val_accuracy", "accuracy")
"""Figures of a result that the table on the screen has room for, beside what differs between the jobs."""

NOTES = "jobs.jsonl"

TOLD = {"folder": str, "overrides": dict, "state": str}
"""What each line of the notes has, beside the number of the job."""

OURS = b"kdal_cli.cli.sweep.Sweep"
"""What the `multirun.yaml` of a sweep of kdal has in it."""


class Sweep(Callback):
    """Looks whose the folder is, before Hydra writes a byte into it; remembers where a sweep puts its jobs."""

    folder: Path | None = None

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        with escaping():
            enter(Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        with escaping():
            folder = Path(config.hydra.sweep.dir)
            _refuse_strange(folder)
            Sweep.folder = folder


@contextmanager
def escaping() -> Iterator[None]:
    """Hydra makes a warning of what is raised in a callback, unless it is no Exception.

    What is wrong with the name of a folder it says itself.
    """
    try:
        with suppress(OmegaConfBaseException):
            yield
    except KdalError as error:
        raise Escape(error) from error


def _refuse_strange(folder: Path) -> None:
    """Raise UserError for a folder that is not empty and in which no sweep of ours began."""
    about = folder / "multirun.yaml"
    try:
        if not folder.exists() or is_empty(folder):
            return
        if about.exists() and OURS in read_bytes(about):
            return
    except OSError as error:
        cure = "choose another hydra.sweep.dir"
        raise UserError(f"cannot write here: {error.strerror}", where=folder, cure=cure) from None
    cure = "take an empty or a new folder: hydra.sweep.dir=…"
    raise UserError("this folder holds files that are not those of a sweep", where=folder, cure=cure)


def note(sweep: Path, number: int, overrides: Sequence[str], run: Path, error: Exception | None) -> None:
    """Write down how a job has ended, and bring the summary up to date."""
    ended = "waiting" if isinstance(error, Waiting) else "failed"
    state = {"state": "done"} if error is None else {"state": ended, **_reason(error)}
    top = hold(sweep)
    folder = run.relative_to(top) if run.is_relative_to(top) else run
    line = json.dumps({"job": number, "overrides": _words(overrides), "folder": str(folder), **state})
    with refusals(sweep / NOTES), opened(sweep / NOTES, os.O_RDWR | os.O_CREAT) as notes:
        fcntl.flock(notes, fcntl.LOCK_EX)  # jobs of one sweep may end at the same time
        append(sweep / NOTES, f"{line}\n".encode())
        write_bytes(sweep / "summary.csv", _csv(jobs(sweep)).encode())


def summarise(*, stopped: bool) -> None:
    """Show how the sweep ended that is just over: its jobs, those that failed and why, and what the runs say.

    One that was `stopped` is not kept waiting for a report.
    """
    folder, Sweep.folder = Sweep.folder, None
    if folder is None or not (rows := sorted([*jobs(folder), *unended(folder)], key=lambda row: row["job"])):
        return
    hold(folder)
    write_bytes(folder / "summary.csv", _csv(rows).encode())
    from kdal_cli.report.display import Display
    from kdal_cli.report.tables import curve_table

    failed, waiting = ([row for row in rows if row["state"] == state] for state in ("failed", "waiting"))
    with Display() as display:
        keys = list(dict.fromkeys(key for row in rows for key in row if key not in ("reason", "exit_code")))
        said = [key for key in keys if any(isinstance(row.get(key), str) for row in rows)]
        differ = [key for key in said if key == "state" or len({row.get(key) for row in rows}) > 1]
        shown = ["job", *differ, *(key for key in SHOWN if key in keys)]
        display.table(curve_table([{key: row[key] for key in shown if key in row} for row in rows]))
        for row in failed:
            display.say(f"job {row['job']} failed, exit code {row['exit_code']}: {row['reason']}")
        for row in waiting:
            display.say(f"job {row['job']} is {row['reason']}")
        display.say(f"summary in {folder / 'summary.csv'}")
        if not stopped and sum(row["state"] == "done" for row in rows) > 1:
            _report(folder, display)


def _report(folder: Path, display: "Display") -> None:
    """What the runs say together; runs that cannot be compared are no reason for a sweep to fail."""
    from kdal_cli.report.write import write_report
    from kdal_cli.study.compare import compare
    from kdal_cli.study.records import find

    try:
        write_report(compare(find([folder])), folder, display, table="cells.csv")
    except UserError as reason:
        display.say(f"no report: {reason}")


def jobs(sweep: Path) -> list[dict[str, Any]]:
    """One row a job that has ended, in order: number, overrides, how it ended, and the figures of its result."""
    rows = []
    for about in _notes(sweep).values():
        ended = {key: about[key] for key in ("state", "exit_code", "reason") if key in about}
        result = sweep / about["folder"] / "result.json"
        figures = flat(read_object(result)) if about["state"] == "done" and result.exists() else {}
        rows.append({"job": about["job"], **about["overrides"], **ended, **figures})
    return sorted(rows, key=lambda row: row["job"])


def unended(sweep: Path) -> Iterator[dict[str, Any]]:
    """A row for each job that has begun and of whose end nothing was heard."""
    ended = _notes(sweep)
    for path in sweep.rglob(".hydra/hydra.yaml"):
        about = About.read(path)
        if about.number is not None and about.number not in ended:
            yield {"job": about.number, **_words(about.task), "state": "not done"}


def _notes(sweep: Path) -> dict[int, dict[str, Any]]:
    """{job: how it ended the last time}; a line that a killed job left half-written is none."""
    lines = read_bytes(sweep / NOTES).splitlines(keepends=True) if (sweep / NOTES).exists() else []
    try:
        notes = [json.loads(line) for line in lines if line.endswith(b"}\n")]
        return {int(note["job"]): {**note, **{key: kind(note[key]) for key, kind in TOLD.items()}} for note in notes}
    except (ValueError, KeyError, TypeError, RecursionError):
        cure = "restore it from a copy, or start a new sweep"
        raise UserError("this file is damaged", where=sweep / NOTES, cure=cure) from None


def _words(overrides: Any) -> dict[str, str]:
    return dict(text.split("=", 1) for text in overrides if "=" in text)


def _reason(error: Exception) -> dict[str, Any]:
    known = isinstance(error, KdalError)
    told = str(error) if known else f"{type(error).__name__}: {error}".splitlines()[0]
    return {"exit_code": error.exit_code if known else 1, "reason": told}


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text, plain = io.StringIO(), [plain_row(row) for row in rows]
    keys = list(dict.fromkeys(key for row in plain for key in row))
    writer = csv.DictWriter(text, keys, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain)
    return text.getvalue()
