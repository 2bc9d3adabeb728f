"""When to stop buying: advice from the validation accuracy of the rounds so far, never from the test set."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdal_cli.study.prediction import LEVEL, futures
from kdal_cli.values import Count, NonNegative, Positive, Share

FEWEST = 4
"""Rounds before a trend is read from them."""


@dataclass(frozen=True)
class Stopping:
    """Rules for ending before the budget does. act: whether the run ends, or only says that it could.

    target: a validation accuracy to reach. plateau: a gain a round, as a share; the run has flattened out when the
    upper end of the 95 % interval of the gain over the last `window` rounds lies below it. worth: the least gain in
    accuracy, as a share, that one unit of cost must promise in the next round. None leaves a rule out.
    """

    act: bool = False
    target: Share | None = None
    plateau: Positive | None = 0.002
    window: Count = 5
    worth: NonNegative | None = None

    def reason(self, labels: Sequence[float], costs: Sequence[float], accuracy: Sequence[float], query: int) -> str:
        """Why to stop after these rounds, in words, or nothing.

        labels, costs, accuracy: of each round, the first two summed up so far, the last on validation images.
        query: labels that the next round would buy.
        """
        if self.target is not None and accuracy[-1] >= self.target:
            return f"validation accuracy {accuracy[-1]:.2%} has reached the target of {self.target:.2%}"
        window = max(self.window, FEWEST)
        if self.plateau is not None and len(accuracy) >= window:
            _, high = slope(accuracy[-window:])
            if high < self.plateau:
                return (
                    f"validation accuracy has flattened out: over the last {window} rounds it gains at most "
                    f"{100 * high:.2f} points a round (95 % interval)"
                )
        if self.worth is not None and len(accuracy) >= FEWEST:
            price = (costs[-1] - costs[0]) / (labels[-1] - labels[0])
            gain = predicted_gain(labels, accuracy, query)
            if gain < self.worth * price * query:
                return f"the next {query:,} labels promise {100 * gain:.2f} points for a price of {price * query:,.2f}"
        return ""


def effort(labels: Sequence[float], accuracy: Sequence[float], query: int, seconds: float | None) -> str:
    """What the next query promises beside the work that it is, in words; nothing of too few rounds.

    seconds: that people took for a label so far; None where nobody counted them.
    """
    if seconds is None or len(accuracy) < FEWEST:
        return ""
    gain, minutes = 100 * predicted_gain(labels, accuracy, query), query * seconds / 60
    return f"the next {query:,} labels promise {gain:.2f} points for about {minutes:,.0f} minutes of labelling"


def outlook(labels: Sequence[float], accuracy: Sequence[float], target: float | None, query: int, end: float) -> str:
    """Where the validation accuracy is going, in words; nothing of too few rounds.

    labels, accuracy: of each round so far. query: labels of the next round. end: labels that the budget ends with. With
    a target the labels that it takes, without one the accuracy at the end.
    """
    ahead = futures(labels, [accuracy], query)
    if ahead is None or accuracy[-1] >= (target or math.inf):
        return ""
    if target is not None:
        return f"{target:.2%} of the validation images {ahead.reaching(target).sentence}"
    low, _, high = ahead.at(end)
    between = f"{low:.1%} to {high:.1%} on the validation images ({100 * LEVEL:.0f} % interval)"
    return f"with {end:,.0f} labels it promises {between}"


def slope(values: Sequence[float]) -> tuple[float, float]:
    """Lower and upper end of the 95 % t interval of the least-squares slope of `values` against 0, 1, 2, …

    Needs three values or more.
    """
    from scipy.stats import t

    n, y = len(values), np.asarray(values) - np.mean(values)
    x = np.arange(n) - (n - 1) / 2
    fit = x @ y / (x @ x)
    reach = t.ppf(0.975, n - 2) * np.linalg.norm(y - fit * x) / math.sqrt((n - 2) * (x @ x))
    return float(fit - reach), float(fit + reach)


def predicted_gain(labels: Sequence[float], accuracy: Sequence[float], query: int) -> float:
    """What the next `query` labels add by the power law error = a · labels^−b, least squares in logarithms, b ≥ 0.

    Learning curves follow such a law over long stretches (Hestness et al. 2017, arXiv:1712.00409), without the floor
    that they end on, so that the prediction is generous.
    """
    x, y = np.log(np.asarray(labels, dtype=float)), np.log(1 - np.clip(accuracy, 0, 1 - 1e-9))
    b, a = np.polyfit(x, y, 1)
    b = min(float(b), 0.0)
    a = float(np.mean(y - b * x))

    def error(n: float) -> float:
        return math.exp(a + b * math.log(n))

    return error(labels[-1]) - error(labels[-1] + query)
