"""Learning curves: laws are found again, futures are those of the law, and the interval covers what it promises."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdal_cli.study.prediction import FEWEST, HORIZON, POWERS, Futures, fit, futures

X = np.arange(1, 9) * 100.0


def law(n, offset=0.95, drop=0.3, power=float(POWERS[12])):
    return offset - drop * (np.asarray(n) / 100) ** -power


@given(st.floats(0.5, 1), st.floats(0, 0.5), st.sampled_from(POWERS.tolist()))
def test_a_law_without_noise_is_found_again(offset, drop, power) -> None:
    found = fit(X, law(X, offset, drop, power)[None], np.ones(8))
    assert found(X)[0] == pytest.approx(law(X, offset, drop, power), abs=1e-9)
    assert found(np.array([5000.0]))[0, 0] == pytest.approx(law(5000.0, offset, drop, power), abs=1e-6)


def test_an_offset_is_a_share_and_a_curve_that_falls_is_level() -> None:
    rising = fit(X, np.linspace(0.1, 0.99, 8)[None], np.ones(8))
    assert rising.offset[0] <= 1
    falling = fit(X, np.linspace(0.9, 0.5, 8)[None], np.ones(8))
    assert falling.drop[0] == 0
    assert falling.offset[0] == pytest.approx(0.7)


def test_weights_are_those_of_rounds_that_come_as_often() -> None:
    y = np.random.default_rng(0).random(4)
    twice = fit(X[[0, 1, 2, 3, 3]], y[[0, 1, 2, 3, 3]][None], np.ones(5))
    assert fit(X[:4], y[None], np.array([1.0, 1, 1, 2]))(X) == pytest.approx(twice(X))


def test_many_laws_at_once_are_each_alone() -> None:
    rng = np.random.default_rng(0)
    y = rng.random((5, 8))
    together = fit(X, y, np.ones(8))(X)
    assert together == pytest.approx(np.concatenate([fit(X, row[None], np.ones(8))(X) for row in y]))


def test_labels_to_a_target_lie_where_the_law_meets_it() -> None:
    target = float(law(1500.0))
    found = futures(X, law(X), 100).reaching(target)
    assert found.low < 1500 < found.high
    assert found.median == pytest.approx(1500, rel=0.25)


def test_a_target_above_the_offset_is_never_reached() -> None:
    found = futures(X, law(X, offset=0.8), 100).reaching(0.9)
    assert found.low == math.inf
    assert found.level == pytest.approx(float(law(HORIZON * 800, offset=0.8)), abs=0.01)


def test_a_target_that_is_met_costs_nothing_more() -> None:
    found = futures(X, law(X), 100).reaching(0.5)
    assert (found.low, found.median, found.high) == (800, 800, 800)


def test_a_future_is_read_as_a_curve_is() -> None:
    found = Futures(np.array([10.0, 20.0]), np.array([[0.0, 1.0]] * 9)).reaching(0.25)
    assert (found.low, found.median, found.high) == pytest.approx((12.5, 12.5, 12.5))


def test_more_rounds_and_more_seeds_promise_more() -> None:
    def width(rounds: int, runs) -> float:
        low, _, high = futures(X[:rounds], runs, 100).at(1600)
        return high - low

    rng = np.random.default_rng(1)
    noisy = law(X) + 0.02 * rng.standard_normal((5, 8))
    assert width(8, law(X)) < width(4, law(X)[:4])
    assert width(8, noisy) < width(8, noisy[:1])


def test_the_same_rounds_have_the_same_futures_and_too_few_have_none() -> None:
    assert futures(X[: FEWEST - 1], law(X)[: FEWEST - 1], 100) is None
    one, two = futures(X, law(X), 100), futures(X, law(X), 100)
    assert (one.y == two.y).all()
    assert one.x[-1] == HORIZON * X[-1]


@pytest.mark.parametrize("noise", [0.005, 0.02])
def test_of_curves_of_the_law_the_interval_covers_what_it_promises(noise) -> None:
    """150 curves of twelve rounds, predicted from five to the tenth: an 80 % interval, within what 150 can tell."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(150):
        truth = law(np.arange(1, 13) * 100.0, rng.uniform(0.8, 1), rng.uniform(0.1, 0.4), rng.uniform(0.3, 1.5))
        seen = truth + noise * rng.standard_normal(12)
        low, _, high = futures(X[:5], seen[:5], 100).at(1000)
        inside += low <= seen[9] <= high
    assert 0.72 < inside / 150 <= 1
