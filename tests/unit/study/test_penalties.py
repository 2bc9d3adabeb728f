"""The pairwise-penalty matrix by hand, against scipy, on runs that are the same and on runs that are cut short."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from kdal_cli.study.penalties import penalties

Runs = dict[int, list[float]]


def runs(values: np.ndarray) -> Runs:
    """(seeds, rounds) as runs with the seeds 0, 1, 2, …"""
    return dict(enumerate(values.tolist()))


def test_by_hand() -> None:
    """Four rounds: one that is the same, two that ours wins on every seed, one that it loses by less than its noise."""
    ahead = np.array([[0, 0, 0, 0, 0], [0.1, 0.1, 0.1, 0.1, 0.2], [0.2, 0.3, 0.2, 0.3, 0.1], [-0.5, 0.3, -0.4, 0, 0]])
    ours, theirs = runs(0.5 + ahead.T), runs(np.full((5, 4), 0.5))
    assert penalties({"ours": ours, "theirs": theirs}).tolist() == [[0, 0.5], [0, 0]]
    assert penalties({"theirs": theirs, "ours": ours}).tolist() == [[0, 0], [0.5, 0]]


def test_a_round_is_won_by_a_t_above_2_776_with_five_seeds() -> None:
    spread = np.array([-2, -1, 0, 1, 2]) / math.sqrt(2.5)  # standard deviation 1, so that t = √5 · mean
    for t, won in ((2.77, 0), (2.78, 1)):
        ahead = runs((spread + t / math.sqrt(5))[:, None])
        assert penalties({"a": ahead, "b": runs(np.zeros((5, 1)))})[0, 1] == won


def test_every_entry_is_a_count_of_t_tests() -> None:
    values = np.random.default_rng(0).normal(0, 1, (4, 6, 10)) + np.array([0, 0.7, 1.4, 2.1])[:, None, None]
    found = penalties({str(method): runs(value) for method, value in enumerate(values)})
    for i, j in itertools.permutations(range(4), 2):
        tests = stats.ttest_1samp(values[i] - values[j], 0)
        assert found[i, j] == pytest.approx(((tests.pvalue < 0.05) & (tests.statistic > 0)).mean())
    assert found.max() > 0.5


def test_identical_runs_have_a_matrix_of_zeros() -> None:
    same = runs(np.random.default_rng(1).random((5, 7)))
    assert (penalties({"a": same, "b": dict(same), "c": dict(same)}) == np.zeros((3, 3))).all()


def test_a_difference_that_is_always_the_same_wins() -> None:
    base = np.random.default_rng(2).random((5, 3))
    assert penalties({"a": runs(base + 0.1), "b": runs(base)}).tolist() == [[0, 1], [0, 0]]


def test_one_seed_beats_nobody() -> None:
    assert (penalties({"a": {0: [1.0, 1.0]}, "b": {0: [0.0, 0.0]}}) == 0).all()


def test_only_shared_seeds_and_rounds_count() -> None:
    base = np.random.default_rng(3).random((4, 6))
    better = runs(base + 0.1)
    better[2] = better[2][:4]  # stopped after four rounds
    better[0][1] = math.nan  # not measured in the second
    better[9] = [0.0] * 6  # a seed of its own
    other = runs(base)
    other[3][3] = math.nan  # nor the other in the fourth
    other[1][2] = base[1, 2] + 5  # the third round is undecided
    assert penalties({"a": better, "b": other}).tolist() == [[0, 0.5], [0, 0]]


def test_runs_that_share_nothing_are_not_compared() -> None:
    found = penalties({"a": {0: [1.0], 1: [1.0]}, "b": {2: [0.0], 3: [0.0]}, "c": {0: [0.0], 1: [0.0], 2: [], 3: []}})
    assert np.isnan(found[0, 1])
    assert np.isnan(found[1, 0])
    assert found[0, 2] == 1
    assert np.isnan(found[1, 2])
    assert np.diag(found).tolist() == [0, 0, 0]


def test_among_equals_one_entry_in_forty_is_a_false_win() -> None:
    """5 % of the tests are significant, half of them each way."""
    values = np.random.default_rng(4).normal(0.7, 0.02, (6, 5, 40))
    found = penalties({str(method): runs(value) for method, value in enumerate(values)})
    false = found.sum() * 40
    assert 0.02 < false / (15 * 40) < 0.09  # 600 tests, dependent ones: four standard errors of independent ones
