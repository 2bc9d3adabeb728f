"""A study as tables: one for the terminal, and every number of it for a file."""

import math
from collections.abc import Iterator

from rich import box
from rich.table import Table
from rich.text import Text

from kdal_cli.plain import clean
from kdal_cli.report.standings import Standing, standings
from kdal_cli.report.study_text import Figure, amount, verdict
from kdal_cli.report.text import MISSING
from kdal_cli.study.statistics import Interval, Paired
from kdal_cli.study.study import Block, Study

Number = float | int | str | None


def summary_table(study: Study, block: Block) -> Table:
    """The cells of a block, the best first: figure at the end, area, labels to the target, difference, verdict."""
    figure, stepped = Figure(study.figure), block.range is not None
    table = _table(block.name or None)
    table.add_column("cell")
    table.add_column("seeds", justify="right")
    table.add_column(f"{figure.name} at the end {figure.unit}".strip(), justify="right")
    if stepped:
        table.add_column(f"area {figure.unit}".strip(), justify="right")
        table.add_column(f"{study.x} to {figure.value(block.target or 0.0)}", justify="right")
    table.add_column(f"better by {figure.points}".strip(), justify="right")
    table.add_column("verdict")
    for standing in standings(study, block):
        entry = standing.entry
        row = [clean(entry.name) + " (baseline)" * standing.is_baseline, str(entry.last.n), figure.mean(entry.last)]
        if stepped:
            row += [figure.mean(entry.area), _reached(standing, study.x)]
        row += [figure.difference(standing.gain), verdict(entry.gain) if entry.gain else ""]
        table.add_row(*map(Text, row))
    return table


def claims_table(study: Study) -> Table:
    """A line for each claim: what was compared, the difference in area, over how many seeds, the verdict."""
    figure = Figure(study.figure)
    table = _table(None)
    for head in ("claim", "compared"):
        table.add_column(head)
    table.add_column(f"better by {figure.points}".strip(), justify="right")
    table.add_column("seeds", justify="right")
    table.add_column("verdict")
    for claim in study.claims:
        row = [claim.sentence, clean(claim.compared), figure.difference(claim.gain), str(claim.gain.n)]
        table.add_row(*map(Text, [*row, verdict(claim)]))
    return table


def summary_rows(study: Study) -> list[dict[str, Number]]:
    """A row for each cell, best first within its data set, in plain units: shares from 0 to 1, seconds, single labels.

    What a cell does not have is None; inf means never. Differences are positive where the cell is the better one. All
    rows have the same keys, in the same order.
    """
    rows = [_row(study, block, standing) for block in study.blocks for standing in standings(study, block)]
    keys = dict.fromkeys(key for row in rows for key in row)
    return [{key: row.get(key) for key in keys} for row in rows]


def _row(study: Study, block: Block, standing: Standing) -> dict[str, Number]:
    entry, gain, reached = standing.entry, standing.entry.gain, standing.entry.reached
    row: dict[str, Number] = {"data_set": block.name, "cell": entry.name, **entry.cell.factors}
    row |= {"figure": study.figure, "x": study.x, "unfinished": len(entry.cell.unfinished)}
    row |= {"baseline": gain.baseline if gain else None, "is_baseline": int(standing.is_baseline)}
    row |= dict(_interval("last", entry.last)) | dict(_interval("area", entry.area))
    row |= {"target": block.target}
    for key in ("median", "low", "high", "reached", "n"):
        row[f"to_target_{key}"] = _given(getattr(reached, key)) if reached else None
    for key in ("median", "low", "high"):
        row[f"predicted_{key}"] = getattr(entry.forecast, key) if entry.forecast else None
    row["saving"] = standing.saving
    row |= dict(_paired("last_gain", gain.last if gain else None)) | dict(
        _paired("area_gain", gain.area if gain else None)
    )
    row |= {"p_t_holm": gain.p_t if gain else None, "p_wilcoxon_holm": gain.p_wilcoxon if gain else None}
    row["verdict"] = verdict(gain) if gain else None
    for key, found in entry.others.items():
        row |= dict(_interval(f"end_{key}", found))
    return row | {f"spent_{key}": _given(value) for key, value in entry.spent.items()}


def _interval(name: str, found: Interval | None) -> Iterator[tuple[str, Number]]:
    for key in ("mean", "low", "high", "n"):
        yield f"{name}_{key}", _given(getattr(found, key)) if found else None


def _paired(name: str, found: Paired | None) -> Iterator[tuple[str, Number]]:
    for key in ("mean", "low", "high", "n", "p_t", "p_wilcoxon", "wins", "ties", "losses"):
        yield f"{name}_{key}", _given(getattr(found, key)) if found else None


def _given(value: Number) -> Number:
    return None if isinstance(value, float) and math.isnan(value) else value


def _reached(standing: Standing, x: str) -> str:
    reached = standing.entry.reached
    if reached is None:
        return MISSING
    missed = "" if reached.reached == reached.n else f" ({reached.reached} of {reached.n})"
    return amount(x, reached.median) + missed


def _table(title: str | None) -> Table:
    return Table(
        title=Text(clean(title)) if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        collapse_padding=True,
        pad_edge=False,
    )
