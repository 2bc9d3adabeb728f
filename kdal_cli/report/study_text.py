"""What a study says in words, the same on a terminal, in a page and in a table: figures, differences, verdicts."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kdal_cli.report.text import MISSING, count, duration, number, percent
from kdal_cli.study.prediction import Forecast
from kdal_cli.study.statistics import ENOUGH_SEEDS, Interval, Paired
from kdal_cli.study.study import Claim, Gain, Study

CURRENCIES = {
    "labels": "labels",
    "cost": "cost of labels",
    "teacher_answers": "teacher answers",
    "labels_with_teacher": "labels with the teacher's",
    "flops": "FLOPs",
    "seconds": "time",
}
"""What is spent, as it is called in a table."""

_EQUAL = {"flops": "computation", "seconds": "time", "cost": "cost of labels"}
"""Currencies of which there is an amount rather than a number."""

NOT_ENOUGH = "not enough seeds to rank"

_SHARES = {"accuracy", "agreement", "precision", "recall", "f1", "ece"}
_SPELT = {"nll": "NLL", "ece": "ECE", "f1": "F1", "val": "validation"}


@dataclass(frozen=True)
class Figure:
    """How a figure, by its key, is called and written: shares in %, their differences in points, others as they are."""

    key: str

    @property
    def name(self) -> str:
        return " ".join(_SPELT.get(word, word) for word in self._words)

    @property
    def share(self) -> bool:
        return not _SHARES.isdisjoint(self._words)

    @property
    def unit(self) -> str:
        return "%" if self.share else "nats" if "nll" in self._words else ""

    @property
    def headed(self) -> str:
        """Name and unit, for an axis or a column."""
        return f"{self.name}, {self.unit}" if self.unit else self.name

    @property
    def points(self) -> str:
        """The unit of a difference."""
        return "points" if self.share else self.unit

    def value(self, value: float) -> str:
        if not math.isfinite(value):
            return MISSING
        text = percent(value) if self.share else _decimal(value)
        return text.replace("-", "−")

    def mean(self, found: Interval | None) -> str:
        """`93.27 ± 0.31`; of one seed the mean alone."""
        return MISSING if found is None else self.value(found.mean) + self._reach(found)

    def difference(self, found: Paired | None) -> str:
        """`+1.20 ± 0.31`; of one seed the difference alone."""
        if found is None:
            return MISSING
        return ("+" if found.mean > 0 else "") + self.value(found.mean) + self._reach(found)

    def measured(self, found: Paired) -> str:
        """A difference with its unit: `+1.20 ± 0.31 points`"""
        return " ".join(filter(None, (self.difference(found), self.points)))

    @property
    def _words(self) -> list[str]:
        return re.split(r"[._]", self.key)

    def _reach(self, found: Interval | Paired) -> str:
        return f" ± {self.value(found.high - found.mean)}" if math.isfinite(found.high) else ""


def amount(currency: str, value: float) -> str:
    """So much of a currency: `1,200`, `193 M`, `3 min 20 s`; `never` for infinity."""
    if not math.isfinite(value):
        return "never" if value == math.inf else MISSING
    if currency == "seconds":
        return duration(value)
    if currency == "flops":
        return _large(value)
    return count(value) if currency != "cost" else number(round(value, 2))


def interval_ahead(currency: str, found: Forecast) -> str:
    """Where a target will be met: `420 to 610`, `from 420 on`, `never`."""
    if math.isinf(found.low):
        return "never"
    low = amount(currency, found.low)
    return f"{low} to {amount(currency, found.high)}" if math.isfinite(found.high) else f"from {low} on"


def p_value(p: float | None) -> str:
    """Three decimals; below that `< 0.001`."""
    return MISSING if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def verdict(judged: Gain | Claim) -> str:
    """What the corrected test says, or that there are not seeds enough to say it."""
    return judged.verdict if judged.headline.enough else NOT_ENOUGH


def question(study: Study) -> str:
    """What was asked, in a sentence."""
    if study.claims:
        return "Does a teacher help active learning, and does active learning help a teacher?"
    if not any(entry.gain for block in study.blocks for entry in block.entries):
        return f"What {Figure(study.figure).name} is reached, and for what?"
    if any(block.range for block in study.blocks):
        equal = _EQUAL.get(study.x, f"number of {CURRENCIES[study.x]}")
        return f"What is better than {study.against} at the same {equal}?"
    return f"What is better than {study.against}?"


def answer(study: Study) -> Iterator[str]:
    """What was found: a sentence for each claim, or one for all comparisons with the baseline."""
    gains = {
        f"{block.name}: {entry.name}" if block.name else entry.name: entry.gain
        for block in study.blocks
        for entry in block.entries
        if entry.gain
    }
    if study.claims:
        yield from _of_claims(study)
    elif gains:
        yield from _of_gains(study, gains)
    else:
        yield from _alone(study)
    if study.ranking:
        rank, method = min(zip(study.ranking.ranks, study.ranking.methods, strict=True))
        yield f"The best average rank over {study.ranking.data_sets} data sets: {method}, {rank:.2f}."


def ahead(study: Study) -> Iterator[str]:
    """Where cells will meet the target that have not met it yet."""
    figure = Figure(study.figure)
    for block in study.blocks if study.x == "labels" else ():
        for entry in block.entries:
            if entry.forecast:
                target = f"{figure.value(entry.forecast.target)} {figure.unit}"
                yield f"{f'{block.name}: ' * bool(block.name)}{entry.name}: {target} {entry.forecast.sentence}"


def _of_claims(study: Study) -> Iterator[str]:
    by_sentence: dict[str, list[Claim]] = {}
    for claim in study.claims:
        by_sentence.setdefault(claim.sentence, []).append(claim)
    for sentence, gains in by_sentence.items():
        yield f"{sentence[0].upper()}{sentence[1:]}: {_told(gains, Figure(study.figure))}."


def _of_gains(study: Study, gains: Mapping[str, Gain]) -> Iterator[str]:
    figure, best = Figure(study.figure), max(gains, key=lambda name: gains[name].headline.mean)
    compared = best if len(gains) == 1 else f"{len(gains)} cells"
    yield f"{compared} against {study.against}: {_told(list(gains.values()), figure)}."
    if len(gains) > 1:
        yield f"The best difference: {best}, {figure.measured(gains[best].headline)}."


def _alone(study: Study) -> Iterator[str]:
    """Runs without a baseline, or without a seed in common with it."""
    figure, entries = Figure(study.figure), [entry for block in study.blocks for entry in block.entries]
    if len(entries) == 1:
        reached = f"{figure.mean(entries[0].last)} {figure.unit}".strip()
        yield f"{entries[0].name}: {reached}; there is nothing to compare it with."
    else:
        yield f"{len(entries)} cells, and no two of them that can be compared seed by seed."


def _told(found: Sequence[Gain | Claim], figure: Figure) -> str:
    """The verdict with its difference, or how often there is each."""
    if len(found) == 1:
        gain = found[0].headline
        seeds = f"{gain.n} seed{'s' * (gain.n > 1)}" + ("" if gain.enough else f" of {ENOUGH_SEEDS}")
        return f"{verdict(found[0])} ({figure.measured(gain)}, {seeds})"
    counted = Counter(map(verdict, found))
    if len(counted) == 1:
        return (
            NOT_ENOUGH
            if NOT_ENOUGH in counted
            else f"{verdict(found[0])} in {'both' if len(found) == 2 else f'all {len(found)}'} comparisons"
        )
    words = ("BEATS", "LOSES", "INCONCLUSIVE", NOT_ENOUGH)
    return ", ".join(f"{counted[word]} {word}" for word in words if counted[word])


def _decimal(value: float) -> str:
    if value == round(value) or abs(value) >= 1000:
        return count(value)
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def _large(value: float) -> str:
    """Three digits and a power of a thousand: `193 M` is 193 million."""
    for power, letter in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if value >= 10**power:
            return f"{value / 10**power:.3g} {letter}"
    return f"{value:.3g}"
