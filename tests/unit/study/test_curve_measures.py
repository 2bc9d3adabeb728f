"""Heights, areas and targets of curves, by hand and by laws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kdal_cli.errors import UserError
from kdal_cli.study.statistics import area, at, labels_to_target, reaches

LABELS, ACCURACY = [100, 200, 400], [0.5, 0.7, 0.8]

heights = st.floats(-1, 1)


@st.composite
def curves(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    x = sorted(draw(st.sets(st.integers(0, 20), min_size=2, max_size=8)))
    return [float(v) for v in x], draw(st.lists(heights, min_size=len(x), max_size=len(x)))


@st.composite
def curves_and_places(draw: st.DrawFn) -> tuple[list[float], list[float], list[float]]:
    """A curve and three places on it, in order and apart."""
    x, y = draw(curves())
    parts = sorted(draw(st.sets(st.integers(0, 1000), min_size=3, max_size=3)))
    return x, y, [x[0] + (x[-1] - x[0]) * part / 1000 for part in parts]


@pytest.mark.parametrize(
    ("where", "height"), [(100, 0.5), (150, 0.6), (200, 0.7), (300, 0.75), (400, 0.8), (99, math.nan), (401, math.nan)]
)
def test_a_curve_is_straight_between_its_points_and_unknown_outside(where: float, height: float) -> None:
    assert at(LABELS, ACCURACY, where) == pytest.approx(height, nan_ok=True)


@pytest.mark.parametrize(
    ("start", "end", "mean"),
    [
        (100, 400, (0.6 * 100 + 0.75 * 200) / 300),
        (150, 300, (0.65 * 50 + 0.725 * 100) / 150),  # both ends between points
        (220, 260, 0.72),  # within one segment
        (99, 400, math.nan),
        (100, 401, math.nan),
    ],
)
def test_areas_by_hand(start: float, end: float, mean: float) -> None:
    assert area(LABELS, ACCURACY, start, end) == pytest.approx(mean, nan_ok=True)


@pytest.mark.parametrize(("start", "end"), [(200, 200), (300, 200), (math.nan, 200)])
def test_an_area_needs_a_range(start: float, end: float) -> None:
    with pytest.raises(ValueError, match="range of some width"):
        area(LABELS, ACCURACY, start, end)


@given(curves_and_places(), heights)
def test_the_area_of_a_constant_is_the_constant(case: tuple[list[float], list[float], list[float]], c: float) -> None:
    x, _, (start, _, end) = case
    assert area(x, [c] * len(x), start, end) == pytest.approx(c)


@given(curves_and_places(), st.floats(-3, 3), st.data())
def test_the_area_is_linear(case: tuple[list[float], list[float], list[float]], a: float, data: st.DataObject) -> None:
    x, y, (start, _, end) = case
    z = data.draw(st.lists(heights, min_size=len(x), max_size=len(x)))
    together = area(x, [a * u + v for u, v in zip(y, z, strict=True)], start, end)
    assert together == pytest.approx(a * area(x, y, start, end) + area(x, z, start, end), abs=1e-9)


@given(curves_and_places())
def test_the_areas_of_parts_add_up(case: tuple[list[float], list[float], list[float]]) -> None:
    x, y, (start, middle, end) = case
    parts = area(x, y, start, middle) * (middle - start) + area(x, y, middle, end) * (end - middle)
    assert area(x, y, start, end) * (end - start) == pytest.approx(parts, abs=1e-9)


@given(curves_and_places())
def test_a_point_on_the_line_changes_no_area(case: tuple[list[float], list[float], list[float]]) -> None:
    x, y, (start, where, end) = case
    finer = sorted({*x, where})
    assert area(finer, [at(x, y, v) for v in finer], start, end) == pytest.approx(area(x, y, start, end), abs=1e-9)


@pytest.mark.parametrize(
    ("target", "first"), [(0.4, 100), (0.5, 100), (0.6, 150), (0.7, 200), (0.75, 300), (0.8, 400), (0.81, math.inf)]
)
def test_a_target_is_reached_where_the_line_crosses_it(target: float, first: float) -> None:
    assert reaches(LABELS, ACCURACY, target) == pytest.approx(first)


def test_the_first_crossing_counts_even_where_the_curve_falls_again() -> None:
    assert reaches([0, 1, 2, 3], [0.0, 1.0, 0.0, 1.0], 0.5) == 0.5


@given(curves(), heights)
def test_a_target_is_reached_where_the_curve_first_has_that_height(
    curve: tuple[list[float], list[float]], target: float
) -> None:
    x, y = curve
    first = reaches(x, y, target)
    if math.isinf(first):
        assert max(y) < target
        return
    assert x[0] <= first <= x[-1]
    assert at(x, y, first) == pytest.approx(max(target, y[0]), abs=1e-9)
    assert all(height < target for where, height in zip(x, y, strict=True) if where < first)


@pytest.mark.parametrize("x", [[1, 1, 2], [1, 3, 2], [1, math.nan, 2]])
def test_x_must_grow(x: list[float]) -> None:
    for measure in (at, reaches):
        with pytest.raises(UserError, match="x does not grow"):
            measure(x, [1, 2, 3], 1)


def test_the_first_place_where_x_does_not_grow_is_named() -> None:
    with pytest.raises(UserError, match="20 after 30"):
        area([10, 30, 20], [0, 0, 0], 10, 20)


@pytest.mark.parametrize(("x", "y"), [([], []), ([1, 2], [1]), ([[1, 2]], [[1, 2]])])
def test_a_curve_has_one_height_for_each_place(x: list, y: list) -> None:
    with pytest.raises(ValueError, match="one x and one y"):
        at(x, y, 1)


def test_a_median_of_five_has_no_interval_of_95_percent_and_one_of_six_has() -> None:
    five = labels_to_target([500, 100, 300, 200, 400])
    assert (five.median, five.reached, five.n) == (300, 5, 5)
    assert math.isnan(five.low)
    assert math.isnan(five.high)
    six = labels_to_target([500, 100, 300, 200, 400, 600])  # from the least to the most: 1 - 2 / 2⁶ = 96.9 %
    assert (six.median, six.low, six.high) == (350, 100, 600)


@pytest.mark.parametrize(
    ("firsts", "middle"), [([1, 2, math.inf], 2), ([1, math.inf], math.inf), ([math.inf], math.inf)]
)
def test_runs_that_never_reach_a_target_count_as_later_than_all(firsts: list[float], middle: float) -> None:
    found = labels_to_target(firsts)
    assert (found.median, found.n - found.reached) == (middle, firsts.count(math.inf))


def test_an_interval_may_have_no_upper_end() -> None:
    found = labels_to_target([1, 2, 3, 4, 5, math.inf])
    assert (found.median, found.low, found.high) == (3.5, 1, math.inf)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
@pytest.mark.parametrize("n", [6, 9, 20, 41])
def test_the_interval_of_a_median_is_the_narrowest_that_has_its_level(n: int, level: float) -> None:
    """Its order statistics lie around the median with a chance that the binomial distribution tells."""
    found = labels_to_target(range(1, n + 1), level)
    r = int(found.low)
    assert found.high == n + 1 - r
    assert 1 - 2 * stats.binom.cdf(r - 1, n, 0.5) >= level > 1 - 2 * stats.binom.cdf(r, n, 0.5)


def test_the_interval_of_a_median_covers_it_when_many_runs_are_cut_short() -> None:
    """Exponential numbers of labels, of which the runs see those below 1; the median of all is log 2."""
    draws = np.random.default_rng(3).exponential(size=(1000, 9))
    found = [labels_to_target(np.where(draw < 1, draw, math.inf)) for draw in draws]
    covered = sum(one.low <= math.log(2) <= one.high for one in found)
    assert stats.binomtest(covered, 1000, 1 - 2 * stats.binom.cdf(1, 9, 0.5)).pvalue > 0.01


@pytest.mark.parametrize("firsts", [[], [1, math.nan]])
def test_a_median_needs_numbers(firsts: list[float]) -> None:
    with pytest.raises(ValueError, match="a number for each seed"):
        labels_to_target(firsts)
