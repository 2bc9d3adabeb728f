"""Tests of ranks against brute force, scipy and the tables of Demšar 2006."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from kdal_cli.errors import UserError
from kdal_cli.study.ranks import (
    ENOUGH_DATA_SETS,
    Friedman,
    cliques,
    critical_difference,
    friedman,
    midranks,
    ranks,
    wilcoxon,
)

SCORES = arrays(float, st.tuples(st.integers(2, 8), st.integers(3, 6)), elements=st.integers(0, 4).map(float))


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_mean_ranks_are_those_of_scipy(values: list[int]) -> None:
    assert midranks(values).tolist() == stats.rankdata(values).tolist()


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=8))
def test_the_signed_rank_test_counts_sign_flips(differences: list[int]) -> None:
    """All 2ⁿ signs of the differences, zeros with both: how many have a signed rank sum as large as the one seen."""
    by_rank = stats.rankdata(np.abs(differences)) * (np.array(differences) != 0)
    seen = abs(by_rank @ np.sign(differences))
    flips = [abs(by_rank @ signs) >= seen for signs in itertools.product([-1, 1], repeat=len(differences))]
    assert wilcoxon(differences) == pytest.approx(np.mean(flips))


@pytest.mark.parametrize("n", [1, 4, 5, 10, 25])
def test_the_signed_rank_test_is_that_of_scipy_where_nothing_is_tied(n: int) -> None:
    for differences in np.random.default_rng(n).normal(0.3, 1, (20, n)):
        assert wilcoxon(differences) == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue)


def test_five_seeds_that_all_win_have_a_p_of_a_sixteenth() -> None:
    assert wilcoxon([0.1, 0.2, 0.3, 0.4, 0.5]) == 2 / 2**5
    assert wilcoxon([0.1] * 5) == 2 / 2**5


def test_zeros_take_the_lowest_ranks_with_them() -> None:
    """By hand: ranks 1.5, 1.5, 3, 4; 4 against 3, whose sum is as far from its mean with two of four signs."""
    assert wilcoxon([0, 0, 1, -2]) == 1
    assert wilcoxon([0, 0, 1, 2]) == 0.5
    assert wilcoxon([0, 0]) == 1


def test_average_ranks_by_hand() -> None:
    scores = [[0.9, 0.8, 0.7], [0.5, 0.6, 0.5], [0.3, 0.3, 0.3]]
    assert ranks(scores).tolist() == pytest.approx([(1 + 2.5 + 2) / 3, (2 + 1 + 2) / 3, (3 + 2.5 + 2) / 3])


@given(SCORES)
def test_ranks_share_a_fixed_sum_and_ignore_any_growing_scale(scores: np.ndarray) -> None:
    methods = scores.shape[1]
    assert ranks(scores).sum() == pytest.approx(methods * (methods + 1) / 2)
    assert (ranks(np.exp(scores)) == ranks(scores)).all()
    assert ranks(-scores) == pytest.approx(methods + 1 - ranks(scores))


@given(SCORES)
def test_friedmans_test_is_that_of_scipy(scores: np.ndarray) -> None:
    if (scores == scores[:, :1]).all():
        assert friedman(scores) == Friedman(0, 1)
        return
    expected = stats.friedmanchisquare(*scores.T)
    assert (friedman(scores).statistic, friedman(scores).p) == pytest.approx((expected.statistic, expected.pvalue))


def test_friedmans_statistic_without_ties_is_demsars_equation() -> None:
    scores = np.random.default_rng(0).random((7, 4))
    average = ranks(scores)
    assert friedman(scores).statistic == pytest.approx(12 * 7 / (4 * 5) * ((average**2).sum() - 4 * 25 / 4))


def test_critical_values_are_those_of_demsars_table() -> None:
    """Table 5 (a) of the paper, for two to ten methods, at 0.05 and 0.10; tables are rounded their own way."""
    at_05 = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
    at_10 = [1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920]
    for level, table in ((0.95, at_05), (0.90, at_10)):
        q = [critical_difference(k, 6, level) / math.sqrt(k * (k + 1) / 36) for k in range(2, 11)]
        assert q == pytest.approx(table, abs=0.0015)


def test_four_times_the_data_sets_halve_the_critical_difference() -> None:
    assert critical_difference(6, 40) == pytest.approx(critical_difference(6, 10) / 2)


def test_with_enough_data_sets_two_methods_are_told_apart_by_winning_all_and_with_three_never() -> None:
    def apart(data_sets: int, wins: int) -> bool:
        return 2 * wins / data_sets - 1 >= critical_difference(2, data_sets)

    assert apart(ENOUGH_DATA_SETS, ENOUGH_DATA_SETS)
    assert not apart(ENOUGH_DATA_SETS, ENOUGH_DATA_SETS - 1)
    assert not apart(3, 3)


@pytest.mark.parametrize(
    ("average", "groups"),
    [
        ([1.0, 2.0, 3.0, 4.0], [(0, 1), (1, 2), (2, 3)]),
        ([4.0, 1.2, 1.0, 1.4], [(2, 1, 3)]),  # in order of rank, the last alone
        ([1.0, 1.9, 2.6, 2.7, 4.5], [(0, 1), (1, 2, 3)]),  # (2, 3) is inside (1, 2, 3)
        ([1.0, 2.5], []),  # a difference as large as the critical one tells them apart
        ([2.0, 2.0, 2.0], [(0, 1, 2)]),
    ],
)
def test_cliques_by_hand(average: list[float], groups: list[tuple[int, ...]]) -> None:
    assert cliques(average, 1.5) == groups


@given(st.lists(st.integers(0, 12), min_size=1, max_size=7), st.integers(1, 6))
def test_cliques_join_those_who_are_not_told_apart_and_no_others(average: list[int], critical: int) -> None:
    joined = {frozenset(pair) for group in cliques(average, critical) for pair in itertools.combinations(group, 2)}
    close = {
        frozenset((i, j))
        for i, j in itertools.combinations(range(len(average)), 2)
        if abs(average[i] - average[j]) < critical
    }
    assert joined == close
    groups = [set(group) for group in cliques(average, critical)]
    assert not any(a < b or (a == b and i != j) for i, a in enumerate(groups) for j, b in enumerate(groups))


def test_a_missing_score_is_named() -> None:
    with pytest.raises(UserError, match="method 1 lacks one on data set 2"):
        ranks([[0.1, 0.2], [0.1, 0.2], [0.1, math.nan]])


@pytest.mark.parametrize("scores", [[0.1, 0.2], [[0.1], [0.2]], np.zeros((0, 3))])
def test_scores_are_a_table_of_two_methods_or_more(scores: list) -> None:
    for test in (ranks, friedman):
        with pytest.raises(ValueError, match="data sets, methods"):
            test(scores)
