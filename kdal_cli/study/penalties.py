"""Who beats whom, round by round: the pairwise-penalty matrix."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kdal_cli.study.statistics import Verdict, paired

Runs = Mapping[int, Sequence[float]]
"""{seed: a metric in each round}; more is better, and round r means as many labels for every method."""


def penalties(curves: Mapping[str, Runs], level: float = 0.95) -> NDArray[np.float64]:
    """The share of rounds in which method i (row) beats method j (column). {method: runs} -> (methods, methods).

    Entry (i, j) gets 1 / rounds for each round in which the two-sided paired t test over seeds, √n · mean / std of the
    differences, is significant (with five seeds: |t| > 2.776) and i is ahead. Add the matrices of several settings; the
    mean of a column is then how much a method is beaten, and less is better. Ash, Zhang, Krishnamurthy, Langford,
    Agarwal, "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds", ICLR 2020, section 5; they count
    rounds at doubling label counts and stop where random is close to its end, here every round given counts once.

    Two methods are compared over the seeds that both have, in the rounds in which all of those runs have a finite
    value; nan where there is no such seed or round.
    """
    matrix = np.zeros((len(curves), len(curves)))
    for (i, ours), (j, theirs) in itertools.combinations(enumerate(curves.values()), 2):
        verdicts = _verdicts(ours, theirs, level)
        rounds = len(verdicts) or math.nan
        matrix[i, j], matrix[j, i] = verdicts.count("BEATS") / rounds, verdicts.count("LOSES") / rounds
    return matrix


def _verdicts(ours: Runs, theirs: Runs, level: float) -> list[Verdict]:
    """The verdict of each shared round over the n shared seeds."""
    seeds = sorted(ours.keys() & theirs.keys())
    a, b = (zip(*(runs[seed] for seed in seeds), strict=False) for runs in (ours, theirs))  # a round each, (n,) values
    shared = (both for both in zip(a, b, strict=False) if all(map(math.isfinite, itertools.chain(*both))))
    return [paired(dict(enumerate(mine)), dict(enumerate(other)), level).verdict for mine, other in shared]
