"""Intervals, paired runs and corrected p values against scipy, brute force, planted effects and laws."""

import itertools
import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kdal_cli.errors import UserError
from kdal_cli.study.statistics import Paired, holm, interaction, interval, paired

MIRRORED = {"BEATS": "LOSES", "LOSES": "BEATS", "INCONCLUSIVE": "INCONCLUSIVE"}

shares = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)  # ties and zeros are common
pairs_of_runs = st.dictionaries(st.integers(0, 99), st.tuples(shares, shares), min_size=1, max_size=8)


def sides(both: dict[int, tuple[float, float]]) -> tuple[dict[int, float], dict[int, float]]:
    return {seed: pair[0] for seed, pair in both.items()}, {seed: pair[1] for seed, pair in both.items()}


def compared(*differences: float) -> Paired:
    """Runs that differ by so much, on top of 0.5."""
    return paired({seed: 0.5 + d for seed, d in enumerate(differences)}, dict.fromkeys(range(len(differences)), 0.5))


def test_an_interval_by_hand() -> None:
    found = interval([1, 2, 3, 4, 5])  # s = √2.5, and t is 2.776 with four degrees of freedom
    assert (found.mean, found.n) == (3, 5)
    assert (found.low, found.high) == pytest.approx(
        (3 - 2.7764 * math.sqrt(0.5), 3 + 2.7764 * math.sqrt(0.5)), abs=1e-4
    )


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 5, 30])
def test_an_interval_is_that_of_scipy(n: int, level: float) -> None:
    values = np.random.default_rng(n).normal(70, 3, n)
    expected = stats.t.interval(level, n - 1, values.mean(), stats.sem(values))
    found = interval(values, level)
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-12)


def test_one_value_has_no_interval_and_equal_values_one_without_width() -> None:
    assert interval([0.3]).mean == 0.3
    assert math.isnan(interval([0.3]).low)
    assert math.isnan(interval([0.3]).high)
    same = interval([0.1] * 3)
    assert (same.low, same.mean, same.high) == (0.1, 0.1, 0.1)


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [0.5, math.inf]])
def test_no_values_or_ones_that_are_not_finite_have_no_mean(values: list[float]) -> None:
    with pytest.raises(UserError, match="a mean needs"):
        interval(values)


@pytest.mark.parametrize("level", [0, 1, 95, math.nan])
def test_a_level_is_a_share(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        interval([1, 2], level)


def test_runs_are_paired_by_the_seeds_that_both_have() -> None:
    found = paired({3: 0.9, 1: 0.7, 2: 0.5, 8: 0.0}, {1: 0.6, 2: 0.5, 3: 0.95, 9: 1.0})
    assert (found.seeds, found.n, found.enough) == ((1, 2, 3), 3, False)
    assert (found.wins, found.ties, found.losses) == (1, 1, 1)
    assert found.mean == pytest.approx((0.1 + 0 - 0.05) / 3)


def test_five_seeds_are_enough_and_four_are_not() -> None:
    assert compared(1, 2, 3, 4, 5).enough
    assert not compared(1, 2, 3, 4).enough


def test_without_a_shared_seed_nothing_is_compared() -> None:
    with pytest.raises(UserError, match=r"no seed in common \(\[0, 1\] against \[2\]\): run both with the same seeds"):
        paired({1: 0.5, 0: 0.5}, {2: 0.5})


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_named_by_its_seed(broken: float) -> None:
    with pytest.raises(UserError, match="seed 7"):
        paired({1: 0.5, 7: 0.4}, {1: 0.5, 7: broken})


def test_identical_runs_are_inconclusive_with_p_1() -> None:
    runs = {seed: 0.1 * seed for seed in range(5)}
    found = paired(runs, dict(runs))
    assert (found.verdict, found.p_t, found.p_wilcoxon) == ("INCONCLUSIVE", 1, 1)
    assert (found.low, found.mean, found.high, found.ties) == (0, 0, 0, 5)


def test_one_seed_is_inconclusive_whatever_it_says() -> None:
    found = compared(0.4)
    assert (found.verdict, found.p_t, found.p_wilcoxon, found.wins) == ("INCONCLUSIVE", 1, 1, 1)
    assert math.isnan(found.low)


def test_differences_that_are_all_the_same_have_the_verdict_of_their_sign() -> None:
    ours, theirs = {0: 0.1 + 0.2, 1: 0.8}, {0: 0.2, 1: 0.7}  # each differs by 0.1, with rounding errors of their own
    found = paired(ours, theirs)
    assert (found.verdict, found.p_t, found.low, found.enough) == ("BEATS", 0, found.high, False)
    assert found.mean == pytest.approx(0.1)
    assert paired(theirs, ours).verdict == "LOSES"


def test_an_error_of_rounding_does_not_win() -> None:
    found = paired(dict.fromkeys(range(5), 0.1 + 0.2), dict.fromkeys(range(5), 0.3))
    assert (found.ties, found.verdict, found.p_t, found.p_wilcoxon) == (5, "INCONCLUSIVE", 1, 1)


@pytest.mark.parametrize("n", [2, 3, 5, 12])
@pytest.mark.parametrize("effect", [0, 0.8])
def test_the_t_test_and_its_interval_are_those_of_scipy(n: int, effect: float) -> None:
    rng = np.random.default_rng(n)
    ours, theirs = rng.normal(effect, 1, n), rng.normal(0, 1, n)
    expected = stats.ttest_rel(ours, theirs)
    found = paired(dict(enumerate(ours)), dict(enumerate(theirs)))
    assert found.p_t == pytest.approx(expected.pvalue, rel=1e-8)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)), abs=1e-9)


@given(pairs_of_runs)
def test_the_verdict_is_the_sign_of_a_significant_t_test(both: dict[int, tuple[float, float]]) -> None:
    found = paired(*sides(both), level=0.9)
    assert (found.verdict != "INCONCLUSIVE") == (found.p_t < 0.1)
    assert found.verdict in ("INCONCLUSIVE", "BEATS" if found.mean > 0 else "LOSES")
    assert found.wins + found.ties + found.losses == found.n == len(both)


@given(pairs_of_runs)
def test_swapping_the_sides_mirrors_everything(both: dict[int, tuple[float, float]]) -> None:
    ours, theirs = sides(both)
    there, back = paired(ours, theirs), paired(theirs, ours)
    assert (back.mean, back.low, back.high) == pytest.approx((-there.mean, -there.high, -there.low), nan_ok=True)
    assert (back.wins, back.ties, back.losses) == (there.losses, there.ties, there.wins)
    assert (back.p_t, back.p_wilcoxon) == pytest.approx((there.p_t, there.p_wilcoxon))
    assert back.verdict == MIRRORED[there.verdict]


@given(pairs_of_runs, st.floats(-3, 3))
def test_a_shift_of_both_sides_changes_nothing(both: dict[int, tuple[float, float]], shift: float) -> None:
    here, there = paired(*sides(both)), paired(*sides({seed: (a + shift, b + shift) for seed, (a, b) in both.items()}))
    assert (there.mean, there.low, there.high) == pytest.approx((here.mean, here.low, here.high), abs=1e-9, nan_ok=True)
    assert (there.p_wilcoxon, there.wins, there.ties) == (here.p_wilcoxon, here.wins, here.ties)
    assert there.verdict == here.verdict


@given(pairs_of_runs, st.randoms(use_true_random=False))
def test_which_seed_has_which_number_does_not_matter(both: dict[int, tuple[float, float]], random: Random) -> None:
    names = list(both)
    random.shuffle(names)
    here, there = paired(*sides(both)), paired(*sides(dict(zip(names, both.values(), strict=True))))
    assert (there.mean, there.low, there.high) == pytest.approx((here.mean, here.low, here.high), nan_ok=True)
    assert (there.verdict, there.p_wilcoxon, there.wins) == (here.verdict, here.p_wilcoxon, here.wins)


def test_a_planted_effect_is_in_nineteen_of_twenty_intervals() -> None:
    rng, effect, trials = np.random.default_rng(1), 0.02, 1000
    found = [
        paired(dict(enumerate(base + effect + noise)), dict(enumerate(base)))
        for base, noise in rng.normal(0, 0.01, (trials, 2, 5)) + 0.7 * np.array([[1], [0]])
    ]
    covered = sum(one.low <= effect <= one.high for one in found)
    assert stats.binomtest(covered, trials, 0.95).pvalue > 0.01
    assert np.mean([one.mean for one in found]) == pytest.approx(effect, abs=0.001)  # 5 standard errors
    assert sum(one.verdict == "BEATS" for one in found) > 0.9 * trials  # two standard deviations, five seeds
    assert all(one.verdict != "LOSES" for one in found)


def test_an_effect_that_is_not_there_is_found_in_one_of_twenty_comparisons() -> None:
    rng, trials = np.random.default_rng(2), 1000
    verdicts = [
        paired(dict(enumerate(a)), dict(enumerate(b))).verdict for a, b in rng.normal(0.7, 0.01, (trials, 2, 5))
    ]
    beats, loses = verdicts.count("BEATS"), verdicts.count("LOSES")
    assert stats.binomtest(beats + loses, trials, 0.05).pvalue > 0.01
    assert stats.binomtest(beats, beats + loses, 0.5).pvalue > 0.01


def test_an_interaction_is_the_difference_of_the_differences() -> None:
    a1, a0 = {0: 0.9, 1: 0.8, 2: 0.7, 5: 0.0}, {0: 0.5, 1: 0.5, 2: 0.5}
    b1, b0 = {0: 0.6, 1: 0.6, 2: 0.5}, {0: 0.4, 1: 0.5, 2: 0.5, 6: 1.0}
    found = interaction(a1, a0, b1, b0)
    expected = interval([0.4 - 0.2, 0.3 - 0.1, 0.2 - 0.0], 0.95)
    assert found.seeds == (0, 1, 2)
    assert (found.mean, found.low, found.high) == pytest.approx((expected.mean, expected.low, expected.high))
    assert interaction(a1, a0, b1, b0, 0.5) == interaction(b0, b1, a0, a1, 0.5)  # sampler and teacher change places
    assert interaction(a1, a0, a1, a0).verdict == "INCONCLUSIVE"


def test_holm_by_hand() -> None:
    # 4 · 0.005, 3 · 0.01, 2 · 0.03, and 1 · 0.04 is not below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(
    st.lists(st.sampled_from([0, 0.001, 0.01, 0.012, 0.02, 0.03, 0.2, 1]), max_size=5), st.sampled_from([0.03, 0.05])
)
def test_holm_is_the_closed_bonferroni_test(p: list[float], alpha: float) -> None:
    """A hypothesis falls where every set of hypotheses with it in falls: by the smallest p, times their number."""
    for test, corrected in enumerate(holm(p)):
        others = [value for other, value in enumerate(p) if other != test]
        sets = itertools.chain.from_iterable(itertools.combinations(others, n) for n in range(len(p)))
        falls = all(min(p[test], *with_it, 1) * (1 + len(with_it)) <= alpha for with_it in sets)
        assert (corrected <= alpha) == falls


@pytest.mark.parametrize("broken", [-0.1, 1.1, math.nan])
def test_holm_refuses_what_is_no_p_value(broken: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        holm([0.5, broken])
