"""Verdicts after Holm: equal methods are rarely told apart, and real differences are still found."""

import numpy as np

from kdal_cli.study.statistics import paired
from kdal_cli.study.study import Gain, corrected, judge

SEEDS, METHODS, STUDIES = 5, 20, 300


def gains(rng: np.random.Generator, better: float = 0.0) -> list[Gain]:
    """A study: methods of the same mean, the first of which is better, against a baseline that all share."""
    baseline = dict(enumerate(0.8 + 0.01 * rng.standard_normal(SEEDS)))
    means = [0.8 + better * (method == 0) for method in range(METHODS)]
    ours = [dict(enumerate(mean + 0.01 * rng.standard_normal(SEEDS))) for mean in means]
    return corrected([Gain("random", paired(each, baseline), None) for each in ours])


def test_of_twenty_equal_methods_hardly_a_study_says_that_one_is_better_or_worse() -> None:
    rng = np.random.default_rng(0)
    studies = [gains(rng) for _ in range(STUDIES)]
    corrected_words = sum(any(gain.verdict != "INCONCLUSIVE" for gain in study) for study in studies)
    intervals = sum(any(gain.headline.verdict == "BEATS" for gain in study) for study in studies)
    assert corrected_words / STUDIES <= 0.05
    assert intervals / STUDIES > 0.15  # what the intervals alone would say


def test_a_method_that_is_better_is_found_among_equals() -> None:
    rng = np.random.default_rng(1)
    found = [gains(rng, better=0.15)[0].verdict for _ in range(20)]
    assert found.count("BEATS") >= 18


def test_a_verdict_has_the_side_of_its_difference() -> None:
    up = paired({0: 1.0, 1: 1.1, 2: 0.9}, {0: 0.0, 1: 0.0, 2: 0.0})
    down = paired({0: 0.0, 1: 0.0, 2: 0.0}, {0: 1.0, 1: 1.1, 2: 0.9})
    none = paired({0: 1.0}, {0: 1.0})
    assert [judge(each, 0.05) for each in (up, down, none)] == ["BEATS", "LOSES", "INCONCLUSIVE"]
    assert judge(up, 0.051) == "INCONCLUSIVE"
