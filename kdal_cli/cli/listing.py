"""`kdal runs` and `kdal report`: what lies in run folders, in a list or side by side."""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from kdal_cli.errors import UserError, nearest
from kdal_cli.study.cells import factors
from kdal_cli.study.records import CURRENCIES, FIGURE, Record, Value, find

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
    options = parser.parse_args(words)

    from kdal_cli.records.files import folder_below
    from kdal_cli.report.display import Display
    from kdal_cli.report.write import write_report
    from kdal_cli.study.compare import compare

    told = {"figure": options.metric, "x": options.x, "against": options.against, "target": options.target}
    study = compare(find(options.folders), **told)
    try:
        out = folder_below(options.out) if options.out else folder_below(options.folders[0], "report")
    except OSError as error:
        where, cure = error.filename, "choose another --out"
        raise UserError(f"cannot write here: {error.strerror}", where=where, cure=cure) from None
    with Display() as display:
        _say_unsealed(study.records, display.say)
        write_report(study, out, display)


def runs(words: Sequence[str]) -> None:
    """`kdal runs [FOLDER] [key=value ...] [--sort FIGURE]`"""
    parser = Words("kdal runs", description="List runs, the best or the newest last.", allow_abbrev=False)
    parser.add_argument("words", nargs="*", metavar="FOLDER | key=value", help="where to look (outputs), and which")
    parser.add_argument("--sort", metavar="FIGURE", help="by a figure of the last round, such as test_accuracy")
    parser.add_argument("--limit", type=int, default=LISTED, metavar="N", help=f"so many, {LISTED} unless told")
    options = parser.parse_args(words)
    folders = [word for word in options.words if "=" not in word or Path(word).is_dir()]
    wanted = dict(word.split("=", 1) for word in options.words if word not in folders)
    if len(folders) > 1:
        raise UserError(f"{len(folders)} folders", where=" ".join(folders), cure="kdal runs takes one")
    if options.limit < 1:
        raise UserError(f"--limit {options.limit}", cure="a whole number from 1 on")

    from kdal_cli.report.display import Display
    from kdal_cli.report.tables import curve_table
    from kdal_cli.study.index import index

    found, damage = index(Path(folders[0] if folders else "outputs"))
    _refuse_unknown(wanted, found)
    chosen = _sorted([record for record in found if _agrees(record, wanted)], options.sort)
    with Display() as display:
        for line in damage:
            display.say(f"left out: {line}")
        _say_unsealed(found, display.say)
        rows = _rows(chosen[-options.limit :], options.sort)
        if rows:
            display.table(curve_table(rows))
        hidden = len(chosen) - len(rows)
        more = f", {hidden:,} more with --limit {len(chosen)}" if hidden else ""
        display.say(f"{len(chosen):,} of {len(found):,} runs{more}")


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


def _rows(records: Sequence[Record], figure: str | None) -> list[dict[str, float | str | None]]:
    """A line a run: where it is, what sets it apart, and its last figures."""
    rows = []
    for record, apart in zip(records, factors(records) if records else [], strict=True):
        figures = ["labels", FIGURE.get(record.stage, "accuracy"), *([figure] if figure else [])]
        told = {key: record.rounds[-1].get(key) if record.rounds else None for key in figures}
        row = {"run": str(record.folder), "stage": record.stage, "state": _state(record), "seed": str(record.seed)}
        rows.append({**row, **apart, **told})
    return rows
