"""`kdal runs` and `kdal report`: what lies in run folders, in a list or side by side."""

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from kdal_cli.errors import UserError, nearest
from kdal_cli.study.cells import factors
from kdal_cli.study.records import CURRENCIES, FIGURE, Record, Value, find

Row = dict[str, float | str | None]

JOB = re.compile(r"(^|(?<=/))(\d+)_[^/]*=[^/]*$")
"""The folder of a job of a sweep: its number and its words."""

FORMS = (".pdf", ".svg", ".png")
NAMED = 8
"""Columns that are named where they have no room."""
LISTED = 50
"""Runs that are listed unless more are asked for."""


class Words(argparse.ArgumentParser):
    """A parser whose complaints are ours: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message, cure=f"{self.prog} --help")


def report(words: Sequence[str]) -> None:
    """`kdal report RUN_OR_SWEEP…`"""
    parser = Words("kdal report", description="Compare runs: which are better, by how much, and how sure that is.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN_OR_SWEEP", help="run folders, or folders of them")
    parser.add_argument("--against", metavar="FACTOR=LEVEL", help="the baseline; sampler=random where there is one")
    parser.add_argument("--metric", metavar="FIGURE", help="what is compared; test_accuracy of kdal al-loop")
    parser.add_argument("--x", default="labels", metavar="CURRENCY", help=f"against what: {', '.join(CURRENCIES)}")
    parser.add_argument("--target", type=float, metavar="VALUE", help="the figure that is to be met: 0.9")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the report goes; FOLDER/report of the first")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="the curves alone, a .pdf, .svg or .png for print")
    parser.add_argument("--width", type=_inches, default=3.25, metavar="INCHES", help="its width, 3.25in by default")
    options = parser.parse_args(words)
    if options.figure and options.figure.suffix not in FORMS:
        raise UserError(f"--figure {options.figure}", cure=f"a file that ends in {', '.join(FORMS)}")

    from kdal_cli.records.files import folder_below
    from kdal_cli.report.display import Display
    from kdal_cli.report.write import write_figure, write_report, write_students
    from kdal_cli.study.compare import compare
    from kdal_cli.study.students import students

    told = {"figure": options.metric, "x": options.x, "against": options.against, "target": options.target}
    records = find(options.folders)
    stages = sorted({record.stage for record in records})
    shipped = students(records) if len(stages) > 1 and not options.figure else []
    study = None if shipped else compare(records, **told)
    try:
        out = folder_below(options.out) if options.out else folder_below(options.folders[0], "report")
    except OSError as error:
        where, cure = error.filename, "choose another --out"
        raise UserError(f"cannot write here: {error.strerror}", where=where, cure=cure) from None
    with Display() as display:
        _say_unsealed(records, display.say)
        if study is None:
            display.say(f"runs of several stages, {', '.join(stages)}: their students are compared, and nothing else")
            write_students(shipped, out, display)
            return
        write_report(study, out, display)
        if options.figure:
            write_figure(study, options.figure, options.width, display)


def _inches(word: str) -> float:
    """`3.25in`, `3.25` or `8.3cm` in inches."""
    number, unit = (word[:-2], word[-2:]) if word[-2:] in ("in", "cm") else (word, "in")
    try:
        width = float(number) / (2.54 if unit == "cm" else 1)
    except ValueError:
        width = math.nan
    if not 2 <= width <= 20:
        raise UserError(f"--width {word}", cure="from 2in to 20in, or in cm")
    return width


def runs(words: Sequence[str]) -> None:
    """`kdal runs [FOLDER] [key=value ...] [--sort FIGURE]`"""
    parser = Words("kdal runs", description="List runs, the best or the newest last.", allow_abbrev=False)
    parser.add_argument("words", nargs="*", metavar="FOLDER | key=value", help="where to look (outputs), and which")
    parser.add_argument("--sort", metavar="FIGURE", help="by a figure of the last round, such as test_accuracy")
    parser.add_argument("--limit", type=int, default=LISTED, metavar="N", help=f"so many, {LISTED} by default")
    parser.add_argument("--columns", metavar="KEY,KEY", help="these, rather than those that differ and fit: recipe.lr")
    parser.add_argument("--csv", action="store_true", help="every column that differs, as CSV; all runs unless --limit")
    options = parser.parse_args(words)
    folders = [word for word in options.words if "=" not in word or Path(word).is_dir()]
    wanted = dict(word.split("=", 1) for word in options.words if word not in folders)
    if len(folders) > 1:
        raise UserError(f"{len(folders)} folders", where=" ".join(folders), cure="kdal runs takes one")
    if options.limit < 1:
        raise UserError(f"--limit {options.limit}", cure="a whole number from 1 on")

    from kdal_cli.report.display import Display
    from kdal_cli.report.tables import csv_text, curve_table, fitting
    from kdal_cli.study.index import index

    found, damage = index(Path(folders[0] if folders else "outputs"))
    _refuse_unknown(wanted, found)
    chosen = _sorted([record for record in found if _agrees(record, wanted)], options.sort)
    shown = chosen if options.csv and options.limit == LISTED else chosen[-options.limit :]
    rows = _picked(shown, options.columns) if options.columns else _rows(shown, options.sort)
    if options.csv:
        sys.stdout.write(csv_text(rows))
        return
    with Display() as display:
        for line in damage:
            display.say(f"left out: {line}")
        below = ""
        if rows:
            if not options.columns:
                rows, below = _differing(rows)
            keep = list(rows[0]) if options.columns else ["run", *_figures(shown, options.sort)]
            fit, left_out = fitting(rows, display.console.width, keep)
            display.table(curve_table(fit))
            if left_out:
                more = f" and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
                named = ", ".join(left_out[:NAMED])
                display.say(f"columns left out: {named}{more} (--columns {left_out[0]},…, or --csv)")
        _say_unsealed(found, display.say)
        hidden = len(chosen) - len(rows)
        more = f", {hidden:,} more with --limit {len(chosen)}" if hidden else ""
        display.say(f"{len(chosen):,} of {len(found):,} runs{below}{more}")


def _say_unsealed(records: Sequence[Record], say: Callable[[str], None]) -> None:
    if unsealed := sum(not record.sealed for record in records):
        say(f"{unsealed:,} of {len(records):,} runs have no seals: that a figure of theirs was changed would not show")


def _agrees(record: Record, wanted: Mapping[str, str]) -> bool:
    """Whether a run was asked for with these words: a group's option, or a key's value."""
    about = _about(record)
    return all(about.get(key) == value or _same(record.settings.get(key), value) for key, value in wanted.items())


def _about(record: Record) -> dict[str, str]:
    return {**record.choices, "stage": record.stage, "state": _state(record)}


def _same(held: Value, word: str) -> bool:
    """Whether a setting is what a word says: 0.003 and 3e-3 are the same number, null is None."""
    if isinstance(held, bool) or held is None:
        return word.lower() == {True: "true", False: "false", None: "null"}[held]
    if isinstance(held, int | float):
        with suppress(ValueError):
            return float(word) == held
    return word == held


def _refuse_unknown(wanted: Mapping[str, str], records: Sequence[Record]) -> None:
    known = {key for record in records for key in (*record.settings, *_about(record))}
    for key, value in wanted.items():
        if records and key not in known:
            raise UserError(f"{key}={value}", where="no run has such a key", cure=nearest(key, known))


def _sorted(records: list[Record], figure: str | None) -> list[Record]:
    if figure is None:
        return records
    known = {key for record in records for key in record.keys}
    if records and figure not in known:
        raise UserError(f"--sort {figure}", where="no run has it", cure=nearest(figure, known))
    place = {record.folder: record.values(figure)[-1] if record.rounds else math.nan for record in records}
    return sorted(records, key=lambda r: (not math.isnan(place[r.folder]), place[r.folder]))


def _state(record: Record) -> str:
    return "done" if record.done else "not done"


def _rows(records: Sequence[Record], figure: str | None) -> list[Row]:
    """A line a run: where it is, what sets it apart, and its last figures."""
    rows: list[Row] = []
    figures = _figures(records, figure)
    for record, apart in zip(records, factors(records) if records else [], strict=True):
        own = {"stage": record.stage, "state": _state(record), "seed": str(record.seed)}
        groups = {key: level for key, level in apart.items() if "." not in key}  # a whole option says more than a key
        row = {"run": str(record.folder), **own, **groups, **apart}
        rows.append({**row, **{key: _last(record, key) for key in figures}})
    return rows


def _differing(rows: Sequence[Row]) -> tuple[list[Row], str]:
    """(rows without stage, state or seed where all have the same, names of folders cut short; where these lie).

    A job of a sweep is `3_*`: what follows its number is in the columns, and a shell completes it.
    """
    if len(rows) < 2:
        return list(rows), ""
    same = [key for key in ("stage", "state", "seed") if len({row[key] for row in rows}) == 1]
    top = Path(os.path.commonpath([str(row["run"]) for row in rows]))
    short = [JOB.sub(r"\2_*", str(Path(str(row["run"])).relative_to(top))) for row in rows]
    kept = [{key: value for key, value in row.items() if key not in same} for row in rows]
    return [row | {"run": name} for row, name in zip(kept, short, strict=True)], f" below {top}"


def _figures(records: Sequence[Record], figure: str | None) -> list[str]:
    usual = (FIGURE.get(record.stage, "accuracy") for record in records)
    return list(dict.fromkeys(["labels", *usual, *([figure] if figure else [])]))


def _picked(records: Sequence[Record], columns: str) -> list[Row]:
    """A line a run with the columns asked for: `run`, `started`, a group, a setting, a figure of the last round."""
    keys, known = columns.split(","), {"run", "started"}
    for record in records:
        known |= {*_about(record), *record.settings, *(record.rounds[-1] if record.rounds else ())}
    for key in keys:
        if records and key not in known:
            raise UserError(f"--columns {key}", where="no run has it", cure=nearest(key, known))
    return [{key: _told(record, key) for key in keys} for record in records]


def _told(record: Record, key: str) -> float | str | None:
    about = {"run": str(record.folder), "started": record.started, **_about(record)}
    if key in about:
        return about[key]
    if key in record.settings:
        value = record.settings[key]
        return str(value).lower() if isinstance(value, bool) else value
    return _last(record, key)


def _last(record: Record, key: str) -> float | None:
    return record.rounds[-1].get(key) if record.rounds else None
