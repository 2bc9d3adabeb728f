"""When to stop: each rule fires where it should, keeps silent where it should, and says why in one sentence."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress, t

from kdal_cli.labels.stopping import FEWEST, Stopping, effort, outlook, predicted_gain, slope

SILENT = Stopping(plateau=None)
"""No rule at all."""


def rounds(accuracy: list[float], price: float = 1.0, start: int = 100, query: int = 50) -> tuple[list, list, list]:
    """(labels, costs, accuracy) of as many rounds; 30 validation labels are paid for first."""
    labels = [start + query * round for round in range(len(accuracy))]
    return labels, [30 + price * n for n in labels], accuracy


def reason(rules: Stopping, accuracy: list[float], price: float = 1.0, query: int = 50) -> str:
    return rules.reason(*rounds(accuracy, price), query)


# The trend.


def test_the_slope_of_three_values_by_hand() -> None:
    """0, 1, 1: slope 1/2, residuals −1/6, 1/3, −1/6, variance 1/6 over one degree of freedom, t 12.7062."""
    low, high = slope([0.0, 1.0, 1.0])
    reach = 12.706204736 * math.sqrt((1 / 6) / 2)
    assert (low, high) == pytest.approx((0.5 - reach, 0.5 + reach))


@given(st.lists(st.integers(0, 64), min_size=3, max_size=12))
def test_the_slope_and_its_interval_are_those_of_scipy(right: list[int]) -> None:
    """Of accuracies on 64 images, which are often the same; of a constant one scipy tells no error."""
    values = [count / 64 for count in right]
    fit = linregress(range(len(values)), values)
    reach = t.ppf(0.975, len(values) - 2) * fit.stderr if len(set(values)) > 1 else 0.0
    assert slope(values) == pytest.approx((fit.slope - reach, fit.slope + reach), abs=1e-9)


@pytest.mark.parametrize("step", [0.0, 0.01, -0.02])
def test_a_straight_line_has_its_slope_and_no_doubt(step: float) -> None:
    assert slope([0.5 + step * n for n in range(6)]) == pytest.approx((step, step), abs=1e-12)


def test_the_interval_holds_the_slope_in_95_of_100_cases() -> None:
    noise = np.random.default_rng(0).normal(size=(1000, 5))
    held = sum(low < 0.3 < high for low, high in (slope(list(0.3 * np.arange(5) + each)) for each in noise))
    assert abs(held - 950) < 5 * math.sqrt(1000 * 0.95 * 0.05)


# The power law.


@given(st.floats(0.1, 0.9), st.floats(0.05, 1.5), st.integers(10, 500), st.integers(1, 500), st.integers(2, 9))
def test_on_a_power_law_the_gain_is_what_the_law_says(error, b, start, query, count) -> None:
    """error(n) = error · (n / start)^−b."""
    labels = [start + query * round for round in range(count)]
    accuracy = [1 - error * (n / start) ** -b for n in labels]
    expected = error * ((labels[-1] / start) ** -b - ((labels[-1] + query) / start) ** -b)
    assert predicted_gain(labels, accuracy, query) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_a_falling_curve_promises_nothing() -> None:
    assert predicted_gain([100, 200, 300, 400], [0.9, 0.8, 0.7, 0.6], 100) == 0
    assert predicted_gain([100, 200, 300, 400], [0.7] * 4, 100) == pytest.approx(0, abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=4, max_size=8))
def test_a_promise_is_a_number_from_0_to_1_whatever_was_measured(accuracy: list[float]) -> None:
    assert 0 <= predicted_gain(rounds(accuracy)[0], accuracy, 50) <= 1


# The rules.


def test_no_rule_no_reason() -> None:
    assert reason(SILENT, [1.0] * 20) == ""


def test_a_target_is_reached_by_the_last_round_and_not_by_one_before() -> None:
    rules = Stopping(plateau=None, target=0.9)
    assert reason(rules, [0.5, 0.9]) == "validation accuracy 90.00% has reached the target of 90.00%"
    assert reason(rules, [0.95]) == "validation accuracy 95.00% has reached the target of 90.00%"
    assert reason(rules, [0.95, 0.8999]) == ""


def test_by_default_a_flat_curve_stops_after_five_rounds_and_a_rising_one_never() -> None:
    flat, rising = [0.9, 0.9001, 0.8999, 0.9, 0.9001], [0.5 + 0.01 * round for round in range(40)]
    assert reason(Stopping(), flat[:4]) == ""
    assert reason(Stopping(), flat) == (
        "validation accuracy has flattened out: over the last 5 rounds it gains at most 0.01 points a round "
        "(95 % interval)"
    )
    assert all(reason(Stopping(), rising[:length]) == "" for length in range(1, 41))
    assert reason(Stopping(), [*rising, 0.9, 0.9001, 0.8999, 0.9, 0.9001]).startswith("validation accuracy has flat")


def test_a_curve_too_noisy_to_tell_goes_on() -> None:
    """It does not rise on average, but it might."""
    noisy = [0.9, 0.85, 0.91, 0.84, 0.9]
    assert sum(slope(noisy)) / 2 < 0.002 < slope(noisy)[1]
    assert reason(Stopping(), noisy) == ""


def test_a_falling_curve_has_flattened_out_too() -> None:
    assert reason(Stopping(), [0.9, 0.89, 0.88, 0.87, 0.86]).startswith("validation accuracy has flattened out")


@pytest.mark.parametrize(("plateau", "stops"), [(0.0099, False), (0.0101, True)])
def test_a_plateau_is_a_gain_a_round(plateau: float, stops: bool) -> None:
    assert bool(reason(Stopping(plateau=plateau), [0.5 + 0.01 * round for round in range(5)])) == stops


def test_the_window_is_what_a_plateau_is_judged_by_and_never_less_than_four_rounds() -> None:
    late = [0.5, 0.6, 0.7, 0.8, 0.8, 0.8, 0.8]
    assert reason(Stopping(window=4), late) != ""
    assert reason(Stopping(window=7), late) == ""
    assert reason(Stopping(window=1), [0.8] * (FEWEST - 1)) == ""
    assert "over the last 4 rounds" in reason(Stopping(window=1), [0.8] * FEWEST)


def law(n: float) -> float:
    return 1 - 2 * n**-0.5


def test_labels_are_worth_their_price_or_not() -> None:
    """Of error 2 n^−½ from 250 labels on, 50 more promise 2 (250^−½ − 300^−½) = 0.01102, for 50 × 0.5."""
    accuracy = [law(n) for n in (100, 150, 200, 250)]
    gain, cost = 2 * (250**-0.5 - 300**-0.5), 50 * 0.5
    more, less = (Stopping(plateau=None, worth=gain / cost * factor) for factor in (1.001, 0.999))
    assert reason(more, accuracy, price=0.5) == "the next 50 labels promise 1.10 points for a price of 25.00"
    assert reason(less, accuracy, price=0.5) == ""
    assert reason(less, accuracy, price=0.6) != ""
    assert reason(more, accuracy[:3], price=0.5) == ""  # too few rounds to read a trend from


def test_the_price_is_what_labels_have_cost_and_not_validation_before_them() -> None:
    labels, costs, accuracy = rounds([law(n) for n in (100, 150, 200, 250)])
    rules = Stopping(plateau=None, worth=1.0)
    assert rules.reason(labels, costs, accuracy, 10).endswith("for a price of 10.00")
    assert rules.reason(labels, [cost + 1e6 for cost in costs], accuracy, 10).endswith("for a price of 10.00")


def test_labels_that_cost_nothing_are_always_worth_it() -> None:
    assert reason(Stopping(plateau=None, worth=10.0), [0.9, 0.8, 0.7, 0.6], price=0.0) == ""


def test_an_outlook_is_a_target_or_the_end_of_the_budget_and_nothing_of_few_rounds() -> None:
    labels, accuracy = [100, 200, 300, 400, 500], [0.6, 0.7, 0.745, 0.77, 0.785]
    assert outlook(labels[:3], accuracy[:3], None, 100, 1000) == ""
    assert outlook(labels, accuracy, 0.7, 100, 1000) == ""
    assert outlook(labels, accuracy, 0.8, 100, 1000).startswith("80.00% of the validation images at about ")
    assert outlook(labels, accuracy, 0.999, 100, 1000).startswith("99.90% of the validation images will not be reached")
    assert outlook(labels, accuracy, None, 100, 1000).startswith("with 1,000 labels it promises 8")


def test_the_next_query_is_told_with_the_work_that_it_is() -> None:
    labels, accuracy = [20, 40, 80, 160], [1 - 2 / n**0.5 for n in (20, 40, 80, 160)]
    gain = 100 * (2 / 160**0.5 - 2 / 220**0.5)
    told = effort(labels, accuracy, 60, 4.0)
    assert told == f"the next 60 labels promise {gain:.2f} points for about 4 minutes of labelling"
    assert effort(labels, accuracy, 60, None) == effort(labels[:3], accuracy[:3], 60, 4.0) == ""
