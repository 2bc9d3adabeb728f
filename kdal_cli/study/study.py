"""What a report tells of many runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from numpy import float64
from numpy.typing import NDArray

from kdal_cli.study.cells import Cell
from kdal_cli.study.prediction import Forecast
from kdal_cli.study.records import Record
from kdal_cli.study.statistics import Interval, Paired, Reached, Verdict, holm

LESS_IS_BETTER = ("nll", "ece", "forgotten")
"""Figures, by how their names end."""


SHARES = ("accuracy", "precision", "recall", "f1")
"""Figures that are shares of which more is better, by how their names end: these can be predicted."""


def sign_of(figure: str) -> int:
    """−1 of a figure of which less is better, else 1."""
    return -1 if figure.endswith(LESS_IS_BETTER) else 1


ALPHA = 0.05
"""A corrected p value at or below this is a verdict."""


def judge(difference: Paired, p: float) -> Verdict:
    """What a difference is worth by a p value that was corrected for all that were looked at."""
    if p > ALPHA or not difference.mean:
        return "INCONCLUSIVE"
    return "BEATS" if difference.mean > 0 else "LOSES"


@dataclass(frozen=True)
class Gain:
    """By how much a cell is better than its baseline, seed by seed: at the end, and in the area under the curve.

    p_t, p_wilcoxon: of the two tests of `headline`, corrected for all cells of the study (`corrected`).
    """

    baseline: str
    last: Paired
    area: Paired | None
    p_t: float = 1.0
    p_wilcoxon: float = 1.0

    @property
    def headline(self) -> Paired:
        """What a cell is judged by: the area under the curve, or the figure at the end without one."""
        return self.area or self.last

    @property
    def verdict(self) -> Verdict:
        return judge(self.headline, self.p_t)


@dataclass(frozen=True)
class Entry:
    """A cell, summed up over its seeds.

    curve: (x, figure) at each place. last: the figure at the end. area: the mean height of the curve over the range of
    its block. reached: where the target is met. spent: the median of each currency at the end. others: figures of the
    last round besides the one that is compared. forecast: where the target will be met, of a cell whose mean has not.
    """

    cell: Cell
    curve: Sequence[tuple[float, Interval]]
    last: Interval
    area: Interval | None
    reached: Reached | None
    spent: Mapping[str, float]
    others: Mapping[str, Interval]
    gain: Gain | None
    forecast: Forecast | None = None

    @property
    def name(self) -> str:
        return self.cell.name


@dataclass(frozen=True)
class Block:
    """The cells of one data set; its name is empty where there is but one.

    range: the x that all curves cover. target: the figure that is to be met. penalties: (entries, entries), the share
    of rounds in which the row beats the column, None where a round is not as many labels in all. All three are None for
    runs without rounds.
    """

    name: str
    entries: Sequence[Entry]
    range: tuple[float, float] | None
    target: float | None
    penalties: NDArray[float64] | None


@dataclass(frozen=True)
class Claim:
    """A sentence that runs speak for or against, and what was compared to tell.

    p_t, p_wilcoxon: of its two tests, corrected for all claims of the study (`corrected`).
    """

    sentence: str
    compared: str
    gain: Paired
    p_t: float = 1.0
    p_wilcoxon: float = 1.0

    @property
    def headline(self) -> Paired:
        return self.gain

    @property
    def verdict(self) -> Verdict:
        return judge(self.gain, self.p_t)


Judged = TypeVar("Judged", Gain, Claim)


def corrected(family: Sequence[Judged]) -> list[Judged]:
    """The same with p values corrected after Holm for all of them: any false verdict has chance ALPHA at most."""
    p_t = holm([each.headline.p_t for each in family])
    p_wilcoxon = holm([each.headline.p_wilcoxon for each in family])
    return [replace(each, p_t=t, p_wilcoxon=w) for each, t, w in zip(family, p_t, p_wilcoxon, strict=True)]


@dataclass(frozen=True)
class Ranking:
    """Methods over data sets: average ranks, 1 the best; which are not told apart; the chance that all are alike."""

    methods: Sequence[str]
    data_sets: int
    ranks: Sequence[float]
    critical: float
    cliques: Sequence[tuple[int, ...]]
    p: float


@dataclass(frozen=True)
class Study:
    """Many runs of one stage. figure: what is compared. x: against what. against: the baseline, in words."""

    records: Sequence[Record]
    stage: str
    figure: str
    x: str
    against: str
    blocks: Sequence[Block]
    claims: Sequence[Claim]
    ranking: Ranking | None
    unfinished: Sequence[Record]
    notes: Sequence[str] = field(default_factory=list)
