"""Where a learning curve is going, before the money is spent: labels to a target, with an interval.

The law is a power law with an offset (Hestness et al. 2017, arXiv:1712.00409; Viering and Loog, "The Shape of Learning
Curves", TPAMI 2023). Axis letters: R runs, P rounds so far, B futures, K rounds to come.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdal_cli.study.statistics import reaches

FEWEST = 4
"""Rounds before a curve is predicted: the law has three numbers."""

LEVEL = 0.8
FUTURES = 400
HORIZON = 20
"""As far as a curve is followed: so many times what has been bought. Beyond it a target counts as never reached."""

ROUNDS = 400
"""Rounds to come that a future has at most; of more, so many that are larger."""

POWERS = np.geomspace(0.1, 2.5, 28)
LEAST_NOISE = 0.004
"""A standard deviation of accuracy that no curve is below: four rounds on a line are luck, not knowledge."""

MOST_NOISE = 0.1

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Law:
    """y(n) = offset − drop · (n / unit)^−power, with offset ≤ 1 and drop ≥ 0. Each of the first three is (B,)."""

    offset: Array
    drop: Array
    power: Array
    unit: float

    def __call__(self, n: ArrayLike) -> Array:
        """(K,) -> (B, K)"""
        steps = np.asarray(n, dtype=float)[None] / self.unit
        return self.offset[:, None] - self.drop[:, None] * steps ** -self.power[:, None]


@dataclass(frozen=True)
class Forecast:
    """Where a target is met, in units of x: the median of all futures and the ends of their 80 % interval.

    inf where a future does not get there. level: the figure at which half of the futures end, at the horizon.
    """

    target: float
    median: float
    low: float
    high: float
    level: float

    @property
    def sentence(self) -> str:
        """`at about 480 labels (80 % interval 420 to 610)`, of a target that is not met yet."""
        if math.isinf(self.low):
            return f"will not be reached: the curve flattens out, at about {100 * self.level:.1f} % as it looks now"
        upwards = f"{self.low:,.0f} to {self.high:,.0f}" if math.isfinite(self.high) else f"from {self.low:,.0f} on"
        if math.isinf(self.median):
            return f"may never be reached ({100 * LEVEL:.0f} % interval {upwards} labels)"
        return f"at about {self.median:,.0f} labels ({100 * LEVEL:.0f} % interval {upwards})"


@dataclass(frozen=True)
class Futures:
    """What may come. x: (K,), the last place measured and those after it. y: (B, K), the figure in each future."""

    x: Array
    y: Array

    def reaching(self, target: float) -> Forecast:
        """Where a target is met, by the same reading as `statistics.reaches` reads curves that are complete."""
        places = [reaches(self.x.tolist(), future.tolist(), target) for future in self.y]
        low, median, high = np.quantile(places, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2], method="higher")
        return Forecast(target, float(median), float(low), float(high), float(np.median(self.y[:, -1])))

    def at(self, x: float) -> tuple[float, float, float]:
        """(low, median, high) of the figure at a place."""
        heights = [np.interp(x, self.x, future) for future in self.y]
        low, median, high = np.quantile(heights, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
        return float(low), float(median), float(high)


def futures(x: Sequence[float], runs: ArrayLike, step: float, seed: int = 0) -> Futures | None:
    """Possible continuations of a mean curve; None of fewer rounds than FEWEST.

    x: (P,) labels. runs: (R, P), a share of which more is better, for each seed. step: labels that a round to come
    buys.

    A parametric bootstrap: the law is fitted; in each future seeds are drawn anew, rounds get noise anew, the law is
    fitted anew and followed, and each round to come has noise of its own. Rounds weigh as much as a share's binomial
    error allows, 1 / (y (1 − y)). The variance of the noise is that of the residuals with P − 3 degrees of freedom,
    drawn from its own distribution, so that four rounds promise less than ten. (Drawing rounds with replacement instead
    gave intervals that held the truth less often: four of them are too few to draw from.)
    """
    place, shares = np.asarray(x, dtype=float), np.atleast_2d(np.asarray(runs, dtype=float))
    if len(place) < FEWEST:
        return None
    rng, mean = np.random.default_rng(seed), shares.mean(0)
    error = np.clip(mean, 0.02, 0.98) * (1 - np.clip(mean, 0.02, 0.98))
    relative = np.sqrt(error / error.mean())  # (P,) of the noise, 1 on average
    curve = fit(place, mean[None], relative**-2)(place)[0]
    freedom = max(len(place) - 3, 1)
    noise = max(math.sqrt((((mean - curve) / relative) ** 2).sum() / freedom), LEAST_NOISE)
    drawn = noise * np.sqrt(freedom / rng.chisquare(freedom, FUTURES))
    spread = np.minimum(drawn, max(noise, MOST_NOISE))[:, None]  # (B, 1)
    seeds = rng.integers(len(shares), size=(FUTURES, len(shares)))
    shifted = curve + shares[seeds].mean(1) - mean  # (B, P); of one run nothing is shifted
    law = fit(place, shifted + spread * relative * rng.standard_normal(shifted.shape), relative**-2)
    count = min(ROUNDS, math.ceil((HORIZON - 1) * place[-1] / step))
    ahead = np.linspace(place[-1], max(HORIZON * place[-1], place[-1] + step), count + 1)
    paths = law(ahead) + spread * relative[-1] * rng.standard_normal((FUTURES, count + 1))
    paths[:, 0] = mean[-1]
    return Futures(ahead, np.clip(paths, 0, 1))


def fit(x: Array, y: Array, weights: Array) -> Law:
    """The law with the least weighted squares: (P,), (B, P), (P,). For each power of a grid in closed form."""
    w, unit = weights / weights.sum(), float(x[0])
    best: list[Array] = []
    for power in POWERS:
        z = -((x / unit) ** -power)  # y = offset + drop · z
        middle, level = w @ z, y @ w  # (), (B,)
        spread = w @ (z - middle) ** 2
        drop = np.maximum(((y - level[:, None]) * (z - middle)) @ w / spread, 0)
        offset = level - drop * middle
        drop = np.where(offset > 1, np.maximum((y - 1) @ (w * z) / (w @ z**2), 0), drop)
        offset = np.minimum(offset, 1.0)
        error = (y - offset[:, None] - drop[:, None] * z) ** 2 @ w
        found = [offset, drop, np.full_like(offset, power), error]
        best = [np.where(error < best[3], new, old) for new, old in zip(found, best, strict=True)] if best else found
    return Law(best[0], best[1], best[2], unit)
