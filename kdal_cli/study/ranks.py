"""Statistics of ranks: the signed-rank test of pairs; methods over several data sets, and which are told apart.

After Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 2006. Axis letters: N data sets,
K methods. A score is a number of which more is better.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdal_cli.errors import UserError

ENOUGH_DATA_SETS = 5
"""Below 4 the critical difference of two methods exceeds any difference that ranks can have; at 5, one has to win on
all of them. The chi-square of `friedman` is rough until there are more than 10 (Demšar, section 3.2.2)."""


@dataclass(frozen=True)
class Friedman:
    """The test that all methods are alike: the statistic, and the chance of one as large if they are."""

    statistic: float
    p: float


def midranks(values: ArrayLike) -> NDArray[np.float64]:
    """Ranks along the last axis, 1 for the smallest; equals share the mean of their ranks. (..., K) -> (..., K)."""
    values = np.asarray(values, dtype=float)
    row, column = values[..., None, :], values[..., :, None]  # (..., 1, K), (..., K, 1)
    return (row < column).sum(axis=-1) + ((row == column).sum(axis=-1) + 1) / 2


def wilcoxon(differences: Sequence[float]) -> float:
    """Two-sided p value of the signed-rank test, exact for any n, with ties and zeros.

    Ranks of |difference| with the mean rank for ties; zeros are ranked and their ranks then dropped (Pratt, "Remarks on
    zeros and ties in the Wilcoxon signed rank procedures", JASA 1959). The p value is the share of the 2ᵐ signs of the
    m differences that are not 0 whose positive rank sum is as far from its mean as the one seen; 1 where m = 0.
    """
    signed = np.asarray(differences, dtype=float)  # (n,)
    kept = signed != 0
    twice = np.rint(2 * midranks(np.abs(signed)))[kept].astype(int)  # (m,) doubled, as mean ranks may be halves
    seen, total = int(twice[signed[kept] > 0].sum()), int(twice.sum())
    share = np.zeros(total + 1)  # share[s]: of the signs, with positive rank sum s
    share[0] = 1
    for rank in twice:
        share[rank:] += share[:-rank].copy()
        share /= 2
    as_far = abs(2 * np.arange(total + 1) - total) >= abs(2 * seen - total)
    return min(1.0, float(share[as_far].sum()))


def ranks(scores: ArrayLike) -> NDArray[np.float64]:
    """The average rank of each method, 1 = best, ties shared. scores (N, K) -> (K,).

    Raises UserError where a score is missing: ranks of an incomplete table favour whoever skipped the hard data sets.
    """
    return midranks(-_checked(scores)).mean(axis=0)


def friedman(scores: ArrayLike) -> Friedman:
    """Friedman's test, with its correction for ties. scores (N, K).

        χ² = (K - 1) · Σ_k (Σ_n r_nk - N (K + 1) / 2)² / Σ_nk (r_nk - (K + 1) / 2)²

    with K - 1 degrees of freedom; without ties this is Demšar's equation. Statistic 0 and p 1 where all are tied.
    """
    from scipy.special import chdtrc

    centred = midranks(_checked(scores))  # (N, K)
    methods = centred.shape[1]
    centred -= (methods + 1) / 2
    spread = float((centred**2).sum())
    if spread == 0:
        return Friedman(0.0, 1.0)
    statistic = (methods - 1) * float((centred.sum(axis=0) ** 2).sum()) / spread
    return Friedman(statistic, float(chdtrc(methods - 1, statistic)))


def critical_difference(methods: int, data_sets: int, level: float = 0.95) -> float:
    """Nemenyi's critical difference: average ranks of K methods over N data sets that differ by as much are told apart.

        CD = q · √(K (K + 1) / 6N)

    q is the `level` quantile of the studentized range of K means with infinite degrees of freedom, over √2; the chance
    of one false difference among all pairs is 1 - level. Demšar 2006, section 3.2.2, table 5.
    """
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(level, methods, math.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * data_sets))


def cliques(average: Sequence[float] | NDArray[np.float64], critical: float) -> list[tuple[int, ...]]:
    """The largest groups of methods that are not told apart: the bars of a critical-difference diagram.

    average (K,) of `ranks` -> groups of two methods or more, each within less than `critical` and in order of rank; a
    group inside another is left out.
    """
    order = sorted(range(len(average)), key=lambda method: average[method])
    groups, reached = [], 0
    for first, best in enumerate(order):
        end = first + sum(average[method] - average[best] < critical for method in order[first:])
        if end > max(reached, first + 1):
            groups.append(tuple(order[first:end]))
            reached = end
    return groups


def _checked(scores: ArrayLike) -> NDArray[np.float64]:
    """`scores` as (N, K) float64, N ≥ 1 and K ≥ 2, all finite."""
    scores = np.array(scores, dtype=float)
    if scores.ndim != 2 or len(scores) < 1 or scores.shape[1] < 2:
        raise ValueError(f"scores must be (data sets, methods) with at least two methods, not {scores.shape}")
    missing = np.argwhere(~np.isfinite(scores))  # (how many, 2)
    if len(missing):
        data_set, method = missing[0]
        raise UserError(
            "methods can be ranked only where each has a score",
            where=f"method {method} lacks one on data set {data_set}",
            cure="run it there, or leave one of the two out",
        )
    return scores
