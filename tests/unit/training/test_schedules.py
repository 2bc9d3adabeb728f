"""Numbers that change over a training: where they start, where they end, and that they stay in between."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdal_cli.training.schedules import Schedule, at

kinds = pytest.mark.parametrize("kind", ["linear", "cosine"])


@kinds
@pytest.mark.parametrize("until", [1.0, 0.4])
def test_it_goes_from_start_to_end_by_the_share_named_until(kind: str, until: float) -> None:
    schedule = Schedule(kind, start=8.0, end=2.0, until=until)  # type: ignore[arg-type]
    assert schedule(0.0) == 8.0
    assert schedule(until / 2) == pytest.approx(5.0)
    assert schedule(until) == schedule(1.0) == 2.0


def test_linear_is_straight_and_cosine_is_half_a_wave() -> None:
    assert Schedule("linear", start=0.0, end=4.0)(0.25) == pytest.approx(1.0)
    assert Schedule("cosine", start=0.0, end=4.0)(0.25) == pytest.approx(2 - 2 * math.cos(math.pi / 4))


def test_constant_is_its_end_from_the_first_step() -> None:
    assert [Schedule("constant", start=9.0, end=3.0)(p) for p in (0.0, 0.5, 1.0)] == [3.0, 3.0, 3.0]


@kinds
def test_until_zero_means_the_end_at_once(kind: str) -> None:
    assert Schedule(kind, start=1.0, end=2.0, until=0.0)(0.0) == 2.0  # type: ignore[arg-type]


@kinds
@given(start=st.floats(-1e6, 1e6), end=st.floats(-1e6, 1e6), steps=st.lists(st.floats(0, 1), min_size=2, max_size=5))
@settings(deadline=None, max_examples=50)
def test_it_never_leaves_its_ends_and_never_turns_back(kind: str, start: float, end: float, steps: list[float]) -> None:
    schedule = Schedule(kind, start=start, end=end)  # type: ignore[arg-type]
    values = [schedule(p) for p in sorted(steps)]
    slack = 1e-9 * max(abs(start), abs(end), 1)
    assert all(min(start, end) - slack <= value <= max(start, end) + slack for value in values)
    rising = 1 if end >= start else -1
    assert all(rising * (after - before) >= -slack for before, after in pairwise(values))


def test_a_plain_number_is_its_own_schedule() -> None:
    assert at(0.3, 0.7) == 0.3
    assert at(Schedule("linear", start=0.0, end=10.0), 0.7) == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (Schedule("constant", end=4.0), "4"),
        (Schedule("linear", start=8.0, end=2.0), "linear 8 → 2"),
        (Schedule("cosine", end=0.5, until=0.25), "cosine 0 → 0.5 until 25%"),
    ],
)
def test_a_schedule_says_itself_in_words(schedule: Schedule, words: str) -> None:
    assert str(schedule) == words
