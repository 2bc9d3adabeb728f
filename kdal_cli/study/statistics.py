"""What may be said of runs that differ by chance: means with intervals, paired runs, curves between their points.

More is better throughout: where less is, as of a loss or a cost, negate. A curve is its points (x, y), joined by
straight lines; x grows. `scipy` is imported where it is used, so that a list of runs does not wait for it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kdal_cli.errors import UserError
from kdal_cli.study.ranks import wilcoxon

ENOUGH_SEEDS = 5
"""Seeds for a claim. The t interval of a mean is 1.3 times as wide with four, twice with three, 7 times with two."""

Verdict = Literal["BEATS", "LOSES", "INCONCLUSIVE"]


@dataclass(frozen=True)
class Interval:
    """The mean of n values and the ends of its interval, all in their units; the ends are nan for one value."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Paired:
    """Ours minus theirs over the n seeds that both have: mean with interval, tests, and who was ahead how often."""

    n: int
    seeds: tuple[int, ...]
    mean: float
    low: float
    high: float
    p_t: float
    p_wilcoxon: float
    wins: int
    ties: int
    losses: int

    @property
    def verdict(self) -> Verdict:
        """BEATS where the whole interval is above 0, LOSES where it is below, else INCONCLUSIVE: so for one seed.

        It is the paired t test at 1 - level. Differences that are all the same, and not 0, have an interval without
        width, so that two seeds can have a verdict: look at `enough`.
        """
        if self.low > 0:
            return "BEATS"
        return "LOSES" if self.high < 0 else "INCONCLUSIVE"

    @property
    def enough(self) -> bool:
        """Whether there are seeds enough for a claim."""
        return self.n >= ENOUGH_SEEDS


@dataclass(frozen=True)
class Reached:
    """Where n runs reach a target: median and interval in units of x, inf for never; how many of them reach it."""

    median: float
    low: float
    high: float
    reached: int
    n: int


def interval(values: Iterable[float], level: float = 0.95) -> Interval:
    """Student's t interval of a mean: mean ± t · s / √n.

    s is the standard deviation with n - 1, t the (1 + level) / 2 quantile of Student's distribution with n - 1 degrees
    of freedom. Raises UserError where there is no value, or one that is not finite.
    """
    from scipy.special import stdtrit

    if not 0 < level < 1:
        raise ValueError(f"the level of an interval is between 0 and 1, not {level}")
    values = [float(value) for value in values]
    if not values or not all(map(math.isfinite, values)):
        raise UserError("a mean needs at least one value, and finite ones", where=f"got {values}")
    n, (middle, error) = len(values), _mean_and_error(values)
    reach = float(stdtrit(n - 1, (1 + level) / 2)) * error if n > 1 else math.nan
    return Interval(middle, middle - reach, middle + reach, n)


def paired(ours: Mapping[int, float], theirs: Mapping[int, float], level: float = 0.95) -> Paired:
    """Compare two methods, {seed: value} each, over the seeds that both have, by the differences ours - theirs.

    `p_t` is the two-sided paired t test: 1 for one seed, and where no seed differs; 0 where all differ by the same.
    `p_wilcoxon` is the exact signed-rank test: with n seeds it is never below 2 / 2ⁿ, 0.0625 for five.
    Differences are rounded to 12 digits of the largest value, so that an error of rounding neither wins nor breaks a
    tie. Raises UserError where no seed is shared, or a value is not finite.
    """
    seeds = tuple(sorted(ours.keys() & theirs.keys()))
    if not seeds:
        here, there = sorted(ours), sorted(theirs)
        raise UserError("no seed in common", where=f"{here} against {there}", cure="run both with the same seeds")
    for seed in seeds:
        if not (math.isfinite(ours[seed]) and math.isfinite(theirs[seed])):
            where = f"seed {seed}: {ours[seed]} against {theirs[seed]}"
            raise UserError("a value is not finite", where=where, cure="compare seeds where both have one")
    unit = 1e-12 * max(abs(side[seed]) for side in (ours, theirs) for seed in seeds) or 1.0
    differences = [round((ours[seed] - theirs[seed]) / unit) * unit for seed in seeds]
    found = interval(differences, level)
    return Paired(
        n=found.n,
        seeds=seeds,
        mean=found.mean,
        low=found.low,
        high=found.high,
        p_t=_student(differences),
        p_wilcoxon=wilcoxon(differences),
        wins=sum(difference > 0 for difference in differences),
        ties=differences.count(0),
        losses=sum(difference < 0 for difference in differences),
    )


def interaction(
    a1: Mapping[int, float],
    a0: Mapping[int, float],
    b1: Mapping[int, float],
    b0: Mapping[int, float],
    level: float = 0.95,
) -> Paired:
    """The difference in differences (a1 - a0) - (b1 - b0), over the seeds of all four: does 1 add more to a than to b?

    Of {with teacher, without} × {sampler, random}: does the sampler gain more with a teacher than without?
    """
    for_a = {seed: a1[seed] + b0[seed] for seed in a1.keys() & b0.keys()}
    for_b = {seed: b1[seed] + a0[seed] for seed in b1.keys() & a0.keys()}
    return paired(for_a, for_b, level)  # the same difference; sums, so that it is rounded to digits of the values


def holm(p: Sequence[float]) -> list[float]:
    """p values of m tests, corrected so that one at or below α is a discovery and any false one has chance α at most.

    The i-th smallest becomes max over j ≤ i of (m - j + 1) · p_j, 1 at most; the order is that of `p`. Holm, "A simple
    sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.
    """
    if not all(0 <= value <= 1 for value in p):
        raise ValueError(f"p values are from 0 to 1: {list(p)}")
    order = sorted(range(len(p)), key=lambda test: p[test])
    corrected = accumulate((min(1.0, (len(p) - done) * p[test]) for done, test in enumerate(order)), max)
    return [value for _, value in sorted(zip(order, corrected, strict=True))]


def at(x: Sequence[float], y: Sequence[float], where: float) -> float:
    """The height of a curve at x = `where`; nan before its first point and after its last."""
    return float(np.interp(where, *_curve(x, y), left=math.nan, right=math.nan))


def area(x: Sequence[float], y: Sequence[float], start: float, end: float) -> float:
    """The mean height of a curve from `start` to `end`: the area under it over its width, in units of y.

    nan where the curve does not cover the whole range.
    """
    if not start < end:
        raise ValueError(f"an area needs a range of some width, not from {start} to {end}")
    xs, ys = _curve(x, y)
    grid = np.array([start, *xs[(xs > start) & (xs < end)], end])
    height = np.interp(grid, xs, ys, left=math.nan, right=math.nan)
    return float(np.diff(grid) @ (height[1:] + height[:-1]) / 2 / (end - start))


def reaches(x: Sequence[float], y: Sequence[float], target: float) -> float:
    """The first x at which a curve is at `target` or above it; inf where it never is."""
    xs, ys = _curve(x, y)
    there = ys >= target
    if not there.any():
        return math.inf
    first = int(there.argmax())
    if first == 0:
        return float(xs[0])
    step = slice(first - 1, first + 1)
    return float(min(np.interp(target, ys[step], xs[step]), xs[first]))  # rounding must not carry it past the point


def labels_to_target(firsts: Iterable[float], level: float = 0.95) -> Reached:
    """Sum up what `reaches` says of each seed: inf for a run that ended before, which counts as later than all others.

    Of runs that went equally far the median is exact where more than half reach the target, and inf otherwise. Its
    interval is between order statistics, the r-th smallest and the r-th largest with the largest r for which

        P(Binomial(n, ½) < r) ≤ (1 - level) / 2

    whatever the distribution (Conover, "Practical Nonparametric Statistics", section 3.2). At 95 % that takes six
    seeds; with fewer the ends are nan.
    """
    ordered = sorted(map(float, firsts))
    n = len(ordered)
    if n == 0 or any(map(math.isnan, ordered)):
        raise ValueError(f"a median needs a number for each seed, inf for never: {ordered}")
    below = accumulate(math.comb(n, k) / 2**n for k in range(n))  # P(Binomial(n, ½) < r) for r = 1, 2, …
    r = sum(tail <= (1 - level) / 2 for tail in below)
    low, high = (ordered[r - 1], ordered[-r]) if r else (math.nan, math.nan)
    return Reached(median(ordered), low, high, sum(map(math.isfinite, ordered)), n)


def _student(differences: Sequence[float]) -> float:
    """Two-sided p value of the paired t test."""
    from scipy.special import stdtr

    middle, error = _mean_and_error(differences)
    if error == 0:
        return 0.0 if middle else 1.0
    return 2 * float(stdtr(len(differences) - 1, -abs(middle) / error)) if error > 0 else 1.0


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error s / √n, which is nan for one value."""
    n, first = len(values), values[0]
    shifted = [value - first for value in values]  # so that equal values have no spread at all, not one of rounding
    middle = math.fsum(shifted) / n
    squares = math.fsum((value - middle) ** 2 for value in shifted)
    return first + middle, math.sqrt(squares / (n - 1) / n) if n > 1 else math.nan


def _curve(x: Sequence[float], y: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and y as arrays, (points,) each. Raises UserError unless x grows."""
    xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if xs.ndim != 1 or xs.shape != ys.shape or len(xs) == 0:
        raise ValueError(f"a curve has one x and one y for each point, not {xs.shape} and {ys.shape}")
    stuck = np.flatnonzero(~(np.diff(xs) > 0))
    if len(stuck):
        where = f"{xs[stuck[0] + 1]:g} after {xs[stuck[0]]:g}"
        raise UserError("x does not grow along the curve", where=where, cure="choose an x that each round adds to")
    return xs, ys
