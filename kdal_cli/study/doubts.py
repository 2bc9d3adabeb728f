"""What makes a study not worth believing, said before any verdict."""

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

from kdal_cli.study.baselines import FIGURE, baselines, spoken
from kdal_cli.study.records import Record
from kdal_cli.study.study import Entry, Study

FITTED = 0.95
"""The share of its own labels that a student has to be right on."""

APART = ("own", "seed_set", "bought")
"""`teacher.learns` of a teacher that has read no label that the student still has to buy."""

UNEVEN = 2.0
"""How many times as many steps as another cell one may take a round before it is said."""

NAMED = 6
"""Cells that are named; of more, how many there are."""


def doubts(study: Study) -> list[str]:
    """A sentence for each thing that is wrong, with the cells that it is wrong with and the figures that say so."""
    found = (
        (_unfitted, "students that have not fitted their own labels, so that they say little of samplers or teachers"),
        (_beaten, "students that end below a simple model of the same labels"),
        (_told, "a teacher that has read the labels of the pool: what these students save, it has spent"),
    )
    doubts = [f"{what}: {_named(cells)}" for tell, what in found if (cells := list(_cells(study, tell)))]
    if uneven := list(_uneven(study)):
        what = "students trained for other lengths, which may be part of a difference (recipe=equal_steps: all alike)"
        doubts.append(f"{what}: {_named(uneven)}")
    return doubts


def _cells(study: Study, tell: Callable[[Sequence[Record]], str]) -> Iterator[str]:
    for block in study.blocks:
        for entry in block.entries:
            if told := tell(list(entry.cell.runs.values())):
                yield f"{_of(block.name, entry)} ({told})"


def _uneven(study: Study) -> Iterator[str]:
    """The least and the most steps a round, means over rounds and seeds, of blocks whose cells differ much in these."""
    for block in study.blocks:
        steps = [
            (fmean(fmean(run.values("steps")) for run in runs), entry.name)
            for entry in block.entries
            if (runs := [run for run in entry.cell.runs.values() if "steps" in run.keys and run.values("steps")])
        ]
        if steps and max(steps)[0] > UNEVEN * min(steps)[0]:
            (least, shortest), (most, longest) = min(steps), max(steps)
            of = f"{block.name}: " if block.name else ""
            yield f"{of}{shortest} {least:,.0f} steps a round, {longest} {most:,.0f}"


def _of(block: str, entry: Entry) -> str:
    return f"{block}: {entry.name}" if block else entry.name


def _named(cells: Sequence[str]) -> str:
    more = len(cells) - NAMED
    return ", ".join(cells[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _unfitted(runs: Sequence[Record]) -> str:
    """The least and the most of a round, means over seeds, where the least is too little."""
    shares = ("train_fitted", "train_accuracy")  # a run of an earlier version has the second alone
    told = [[run.values(share) for share in shares if share in run.keys] for run in runs]
    columns = [values[0] for values in told if values]
    means = [fmean(column) for column in zip(*columns, strict=False)]
    if not means or min(means) >= FITTED:
        return ""
    low, high = f"{100 * min(means):.0f}", f"{100 * max(means):.0f}"
    return f"{low} % fitted" if low == high else f"{low} to {high} % fitted"


def _beaten(runs: Sequence[Record]) -> str:
    """The best simple model at the end, mean over seeds, where it is above the student."""
    shared = frozenset.intersection(*(run.keys for run in runs)) if runs else frozenset()
    ends = {column: fmean(run.values(column)[-1] for run in runs) for column in sorted(baselines(shared))}
    if not ends or FIGURE not in shared:
        return ""
    student, best = fmean(run.values(FIGURE)[-1] for run in runs), max(ends, key=lambda column: ends[column])
    if ends[best] <= student:
        return ""
    return f"{100 * student:.2f} %, {spoken(best)} {100 * ends[best]:.2f} %"


def _told(runs: Sequence[Record]) -> str:
    read = [_labels_of_the_pool(run) for run in runs]
    return f"{max(read):,.0f} labels" if read and max(read) else ""


def _labels_of_the_pool(run: Record) -> float:
    """How many labels of the pool its teacher was trained on, as far as the run tells."""
    learns, own = run.settings.get("teacher.learns", "auto"), run.settings.get("data.split.teacher") is not None
    buys = "teacher.learns" in run.settings and run.stage == "al-loop" and not run.settings.get("teacher.checkpoint")
    apart = learns in APART or (learns == "auto" and (own or buys))
    labels = max(run.values("teacher_labels"), default=0.0) if "teacher_labels" in run.keys else 0.0
    return 0.0 if apart else labels
