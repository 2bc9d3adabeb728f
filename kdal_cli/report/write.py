"""`kdal report`: a study on the screen and as files."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

from kdal_cli.errors import UserError
from kdal_cli.records.files import hold, read_bytes, write_bytes
from kdal_cli.report.display import Display
from kdal_cli.report.page import GENERATOR, page
from kdal_cli.report.plots import Form
from kdal_cli.report.students_plot import students_png, students_rows
from kdal_cli.report.study_plots import critical_difference, curves, in_print
from kdal_cli.report.study_tables import claims_table, summary_rows, summary_table
from kdal_cli.report.study_text import ahead, answer, question
from kdal_cli.report.tables import csv_text, curve_table
from kdal_cli.study.doubts import doubts
from kdal_cli.study.students import Student, students
from kdal_cli.study.study import Study

PICTURES = ("curves.png", "curves.svg", "critical_difference.png", "students.png", "students.csv")

SHIPPED = 20
"""Students that are shown on the screen."""


def write_report(study: Study, folder: Path, display: Display, *, table: str = "summary.csv") -> None:
    """Write `report.html`, the table, `curves.png` and `curves.svg` into a folder, and show the tables.

    Raises UserError for a folder in which files of these names are somebody else's.
    """
    hold(folder)
    _refuse_strange(folder, (table, "report.html", *PICTURES))
    for sentence in doubts(study):
        display.warn(sentence)
    display.say(question(study))
    for line in answer(study):
        display.say(line)
    for block in study.blocks:
        display.table(summary_table(study, block))
    for sentence in ahead(study):
        display.say(sentence)
    if study.claims:
        display.table(claims_table(study))
    for note in study.notes:
        display.say(note)
    write_bytes(folder / "report.html", page(study).encode())  # first: by it the folder is known to be a report's
    write_bytes(folder / table, csv_text(summary_rows(study)).encode())
    write_bytes(folder / "curves.png", curves(study, study.blocks, "png"))
    write_bytes(folder / "curves.svg", curves(study, study.blocks, "svg"))
    if study.ranking:
        write_bytes(folder / "critical_difference.png", critical_difference(study.ranking, "png"))
    if found := students(study.records):
        _write_students(found, folder, display)
    display.say(f"report in {folder / 'report.html'}")


def write_students(found: Sequence[Student], folder: Path, display: Display) -> None:
    """Which student to ship, alone: of runs of several stages, which share no curve.

    Raises UserError for a folder in which files of these names are somebody else's.
    """
    hold(folder)
    table, header = folder / "students.csv", csv_text(students_rows(found)).splitlines()[0].encode()
    if not (table.is_file() and read_bytes(table).startswith(header)):
        _refuse_strange(folder, ("students.csv", "students.png"))
    _write_students(found, folder, display)
    display.say(f"picture in {folder / 'students.png'}")


def _write_students(found: Sequence[Student], folder: Path, display: Display) -> None:
    rows = students_rows(found)
    display.table(curve_table(rows[:SHIPPED], title="Which student to ship"))
    write_bytes(folder / "students.csv", csv_text(rows).encode())
    write_bytes(folder / "students.png", students_png(found))


def write_figure(study: Study, path: Path, width: float, display: Display) -> None:
    """The curves alone, so many inches wide, without a headline: for a paper."""
    form = cast("Form", path.suffix.removeprefix("."))
    drawn = curves(study, study.blocks, form, in_print(width))
    try:
        write_bytes(hold(path.parent) / path.name, drawn)
    except OSError as error:
        raise UserError(f"cannot write here: {error.strerror}", where=path, cure="choose another --figure") from None
    display.say(f"figure in {path}")


def _refuse_strange(folder: Path, names: Iterable[str]) -> None:
    page_there = folder / "report.html"
    if page_there.exists() and GENERATOR.encode() in read_bytes(page_there)[:4096]:
        return
    for name in names:
        if os.path.lexists(folder / name):
            raise UserError("this file is not of a report of kdal", where=folder / name, cure="choose another --out")
