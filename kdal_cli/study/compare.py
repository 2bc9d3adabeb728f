"""From run folders to a study: which are alike, what each cell's curve is, and what is better than what."""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median, median_low

from kdal_cli.errors import UserError, nearest
from kdal_cli.study.cells import Cell, Factors, baseline, cells, matched, named, told_in_full
from kdal_cli.study.claims import claims
from kdal_cli.study.curves import Curves, Range, common
from kdal_cli.study.penalties import penalties
from kdal_cli.study.ranks import ENOUGH_DATA_SETS, cliques, critical_difference, friedman, ranks
from kdal_cli.study.records import CURRENCIES, FIGURE, Record
from kdal_cli.study.statistics import interval
from kdal_cli.study.study import SHARES, Block, Entry, Gain, Ranking, Study, corrected, sign_of

OTHERS = ("test_accuracy_at_best_val", "test_precision", "test_recall", "test_f1", "test_nll", "test_ece")
"""Figures of the last round that are told besides."""


def compare(
    records: Sequence[Record],
    *,
    figure: str | None = None,
    x: str = "labels",
    against: str | None = None,
    target: float | None = None,
) -> Study:
    """Everything that a report tells of some runs.

    figure: what is compared; by default the stage's own. x: one of CURRENCIES. against: the baseline, `sampler=random`;
    by default the customary one. target: the figure to be met; by default what half of the seeds of the weakest
    baseline, or more, have at their end.
    Raises UserError for runs that cannot be compared, and for words that no run knows.
    """
    found, notes = cells(records)
    unfinished = [record for cell in found for record in cell.unfinished]
    if not any(cell.runs for cell in found):
        notes.append("no run is finished: this is what there is so far")
        found = [_so_far(cell) for cell in found]
    found = [cell for cell in found if cell.runs]
    if not found:
        raise UserError("no run has a result yet", cure="wait for a first round")
    if target is not None and not math.isfinite(target):
        raise UserError(f"--target {target}", cure="name a number, such as 0.9")
    stage = records[0].stage
    figure = FIGURE.get(stage, "accuracy") if figure is None else figure
    _refuse_unknown(found, figure, x)
    by_data, sign = _by_data(found), sign_of(figure)
    factors = baseline(against, [cell for part in by_data.values() for cell in part])
    parts = {name: [Curves.of(cell, figure, x, sign) for cell in part] for name, part in by_data.items()}
    blocks = [_block(name, part, factors, target, figure.endswith(SHARES)) for name, part in parts.items()]
    blocks = _judged(blocks)
    told = corrected([claim for block in blocks for claim in claims(block.name, parts[block.name], block.range)])
    return Study(
        records, stage, figure, x, told_in_full(factors), blocks, told, _ranking(blocks, sign), unfinished, notes
    )


def _so_far(cell: Cell) -> Cell:
    """The unfinished runs of a cell as if they were finished; of several of one seed the one that started last."""
    begun = sorted((record for record in cell.unfinished if record.rounds), key=lambda record: record.started)
    return Cell(cell.factors, {record.seed: record for record in begun}, cell.unfinished)


def _refuse_unknown(found: Sequence[Cell], figure: str, x: str) -> None:
    runs = [record for cell in found for record in cell.runs.values()]
    shared = frozenset.intersection(*(record.keys for record in runs))
    if figure not in shared:
        raise UserError(f"--metric {figure}", where="not every run has it", cure=nearest(figure, shared))
    currencies = shared.intersection(CURRENCIES)
    if any(len(record.rounds) > 1 for record in runs) and x not in currencies:
        raise UserError(f"--x {x}", where="not every run has it", cure=nearest(x, currencies))


def _by_data(found: Sequence[Cell]) -> dict[str, list[Cell]]:
    """The cells of each data set, where something else differs as well; the data are then no factor of theirs."""
    if all(_of_data(factor) for cell in found for factor in cell.factors):
        return {"": list(found)}
    blocks: dict[str, list[Cell]] = {}
    for cell in found:
        data = {factor: level for factor, level in cell.factors.items() if _of_data(factor)}
        rest = {factor: level for factor, level in cell.factors.items() if not _of_data(factor)}
        blocks.setdefault(named(data) if data else "", []).append(Cell(rest, cell.runs, cell.unfinished))
    return blocks


def _of_data(factor: str) -> bool:
    return factor.partition(".")[0] == "data"


def _block(name: str, found: Sequence[Curves], against: Factors, target: float | None, predicted: bool) -> Block:
    stepped = all(len(run.x) > 1 for curves in found for run in curves.runs.values())
    within = common(found) if stepped else None
    by_cell = {id(curves.cell): curves for curves in found}
    others = [matched(curves.cell, against, [c.cell for c in found]) for curves in found]
    target = (_target(found, against) if target is None else target) if stepped else None
    entries = [
        _entry(curves, by_cell[id(other)] if other else None, within, target, predicted)
        for curves, other in zip(found, others, strict=True)
    ]
    heights = {c.cell.name: {seed: [c.sign * y for y in run.y] for seed, run in c.runs.items()} for c in found}
    matrix = penalties(heights) if stepped and len(found) > 1 and _in_step(found) else None
    return Block(name, entries, within, target, matrix)


def _target(found: Sequence[Curves], against: Factors) -> float:
    """What half of the seeds of the weakest baseline, or more, have at their end."""
    baselines = [curves for curves in found if against.items() <= curves.cell.factors.items()] or found
    sign = found[0].sign
    return sign * min(median_low(sign * end for end in curves.last.values()) for curves in baselines)


def _judged(blocks: Sequence[Block]) -> list[Block]:
    """The blocks, each comparison corrected for all of the study: its headline is about all of them."""
    gains = iter(corrected([entry.gain for block in blocks for entry in block.entries if entry.gain]))
    return [
        replace(block, entries=[replace(entry, gain=next(gains)) if entry.gain else entry for entry in block.entries])
        for block in blocks
    ]


def _in_step(found: Sequence[Curves]) -> bool:
    """Whether a round means as many labels in every run."""
    runs = [record.values("labels") for curves in found for record in curves.cell.runs.values()]
    longest = max(runs, key=len)
    return all(labels == longest[: len(labels)] for labels in runs)


def _entry(curves: Curves, other: Curves | None, within: Range | None, target: float | None, predicted: bool) -> Entry:
    runs = list(curves.cell.runs.values())
    return Entry(
        cell=curves.cell,
        curve=curves.mean(),
        last=interval(curves.last.values()),
        area=interval(curves.areas(within).values()) if within else None,
        reached=curves.reached(target) if target is not None else None,
        spent={key: median(run.values(key)[-1] for run in runs) for key in CURRENCIES if _all_have(runs, key)},
        others={key: interval(run.values(key)[-1] for run in runs) for key in OTHERS if _all_have(runs, key)},
        gain=_gain(curves, other, within) if other else None,
        forecast=curves.forecast(target) if target is not None and predicted else None,
    )


def _all_have(runs: Sequence[Record], key: str) -> bool:
    return all(key in run.keys for run in runs)


def _gain(curves: Curves, other: Curves, within: Range | None) -> Gain | None:
    last = curves.better(curves.last, other.last)
    area = curves.better(curves.areas(within), other.areas(within)) if within else None
    return Gain(other.cell.name, last, area) if last else None


def _ranking(blocks: Sequence[Block], sign: int) -> Ranking | None:
    """Ranks of the mean area, or of the mean figure at the end where there are no curves, if there are data enough."""
    methods = [entry.name for entry in blocks[0].entries]
    heights = [{entry.name: sign * (entry.area or entry.last).mean for entry in block.entries} for block in blocks]
    complete = all(each.keys() == heights[0].keys() for each in heights)
    if len(blocks) < ENOUGH_DATA_SETS or len(methods) < 2 or not complete:
        return None
    scores = [[each[method] for method in methods] for each in heights]
    average, critical = ranks(scores), critical_difference(len(methods), len(blocks))
    told = cliques(average, critical)
    return Ranking(methods, len(blocks), average.tolist(), critical, told, friedman(scores).p)
