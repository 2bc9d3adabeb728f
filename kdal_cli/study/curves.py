"""The curves of a cell: one a seed, a figure against what it took to get there."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

import numpy as np

from kdal_cli.errors import UserError
from kdal_cli.study import statistics
from kdal_cli.study.cells import Cell
from kdal_cli.study.prediction import Forecast, futures
from kdal_cli.study.records import Record
from kdal_cli.study.statistics import Interval, Paired, Reached, interval, paired

POINTS = 40
"""Places at which curves are read off when they were not measured at the same ones."""

Range = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """One run: x, such as labels bought, and a figure, round by round. A stage without rounds has one point."""

    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Curves:
    """A cell and the curve of each seed. sign: −1 where less of the figure is better, else 1."""

    cell: Cell
    runs: Mapping[int, Curve]
    sign: int = 1

    @classmethod
    def of(cls, cell: Cell, figure: str, x: str, sign: int) -> "Curves":
        return cls(cell, {seed: _curve(record, figure, x) for seed, record in cell.runs.items()}, sign)

    @property
    def last(self) -> dict[int, float]:
        """{seed: the figure at the end}"""
        return {seed: run.y[-1] for seed, run in self.runs.items()}

    def areas(self, within: Range) -> dict[int, float]:
        """{seed: the mean height of the curve over a range of x}"""
        return {seed: statistics.area(run.x, run.y, *within) for seed, run in self.runs.items()}

    def mean(self) -> list[tuple[float, Interval]]:
        """(x, mean figure and its interval) at each place that all seeds were measured at, or evenly in between.

        Seeds that have no range of x in common are averaged round by round, x as well.
        """
        runs = list(self.runs.values())
        if all(run.x == runs[0].x for run in runs):
            return [(x, interval(values)) for x, *values in zip(runs[0].x, *(run.y for run in runs), strict=True)]
        within = _covered(run.x for run in runs)
        if within is None:
            rounds = zip(*(zip(run.x, run.y, strict=True) for run in runs), strict=False)
            return [(fmean(x for x, _ in points), interval(y for _, y in points)) for points in rounds]
        places = np.linspace(*within, POINTS).tolist()
        return [(x, interval(statistics.at(run.x, run.y, x) for run in runs)) for x in places]

    def reached(self, target: float) -> Reached:
        """Where the figure is as good as a target for the first time."""
        firsts = (
            statistics.reaches(run.x, [self.sign * y for y in run.y], self.sign * target) for run in self.runs.values()
        )
        return statistics.labels_to_target(firsts)

    def forecast(self, target: float) -> Forecast | None:
        """Where the mean of the seeds will be as good as a target; None where it is, or after too few rounds.

        Seeds that were measured at other places are read off at as many as the shortest of them has rounds.
        """
        runs = list(self.runs.values())
        places = list(runs[0].x)
        if any(run.x != runs[0].x for run in runs):
            within = _covered(run.x for run in runs)
            if within is None:
                return None
            places = np.linspace(*within, min(len(run.x) for run in runs)).tolist()
        shares = [[statistics.at(run.x, run.y, x) for x in places] for run in runs]
        if len(places) < 2 or max(fmean(column) for column in zip(*shares, strict=True)) >= target:
            return None
        ahead = futures(places, shares, places[-1] - places[-2])
        return ahead.reaching(target) if ahead else None

    def better(self, ours: Mapping[int, float], theirs: Mapping[int, float]) -> Paired | None:
        """By how much ours are better, seed by seed; None where no seed has both."""
        if not ours.keys() & theirs.keys():
            return None
        signed = [{seed: self.sign * value for seed, value in side.items()} for side in (ours, theirs)]
        return paired(signed[0], signed[1])


def common(curves: Sequence[Curves]) -> Range | None:
    """The range of x that all curves cover, None where that has no width."""
    return _covered(run.x for each in curves for run in each.runs.values())


def _covered(xs: Iterable[Sequence[float]]) -> Range | None:
    xs = list(xs)
    start, end = max(x[0] for x in xs), min(x[-1] for x in xs)
    return (start, end) if start < end else None


def _curve(record: Record, figure: str, x: str) -> Curve:
    """Raises UserError unless x grows from round to round and every figure is a number."""
    xs = record.values(x) if x in record.keys else [0.0] * len(record.rounds)
    for before, after in pairwise(xs):
        if not after > before:
            where = f"{after:g} after {before:g} in {record.folder}"
            raise UserError(f"--x {x} does not grow", where=where, cure="choose what each round adds to")
    ys = record.values(figure)
    if lost := [number for number, y in enumerate(ys) if not math.isfinite(y)]:
        where = f"round {lost[0]} of {record.folder}: {ys[lost[0]]}"
        raise UserError(f"--metric {figure} is not finite", where=where, cure="choose another, or leave this run out")
    return Curve(xs, ys)
