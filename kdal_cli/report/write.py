"""`kdal report`: a study on the screen and as files."""

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path

from kdal_cli.errors import UserError
from kdal_cli.plain import plain_row
from kdal_cli.records.files import hold, read_bytes, write_bytes
from kdal_cli.report.display import Display
from kdal_cli.report.page import GENERATOR, page
from kdal_cli.report.study_plots import critical_difference, curves
from kdal_cli.report.study_tables import claims_table, summary_rows, summary_table
from kdal_cli.report.study_text import answer, question
from kdal_cli.study.study import Study

PICTURES = ("curves.png", "curves.svg", "critical_difference.png")


def write_report(study: Study, folder: Path, display: Display, *, table: str = "summary.csv") -> None:
    """Write `report.html`, the table, `curves.png` and `curves.svg` into a folder, and show the tables.

    Raises UserError for a folder in which files of these names are somebody else's.
    """
    hold(folder)
    _refuse_strange(folder, (table, "report.html", *PICTURES))
    display.say(question(study))
    for line in answer(study):
        display.say(line)
    for block in study.blocks:
        display.table(summary_table(study, block))
    if study.claims:
        display.table(claims_table(study))
    for note in study.notes:
        display.say(note)
    write_bytes(folder / "report.html", page(study).encode())  # first: by it the folder is known to be a report's
    write_bytes(folder / table, _csv(study).encode())
    write_bytes(folder / "curves.png", curves(study, study.blocks, "png"))
    write_bytes(folder / "curves.svg", curves(study, study.blocks, "svg"))
    if study.ranking:
        write_bytes(folder / "critical_difference.png", critical_difference(study.ranking, "png"))
    display.say(f"report in {folder / 'report.html'}")


def _refuse_strange(folder: Path, names: Iterable[str]) -> None:
    page_there = folder / "report.html"
    if page_there.exists() and GENERATOR.encode() in read_bytes(page_there)[:4096]:
        return
    for name in names:
        if os.path.lexists(folder / name):
            raise UserError("this file is not of a report of kdal", where=folder / name, cure="choose another --out")


def _csv(study: Study) -> str:
    rows, text = [plain_row(row) for row in summary_rows(study)], io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
