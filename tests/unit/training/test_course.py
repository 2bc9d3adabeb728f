"""How a training goes whose end is open: it fits, then it decays; it never goes on for ever, and never stops before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdal_cli.errors import UserError
from kdal_cli.training.course import Course
from kdal_cli.training.recipe import Recipe, Until

UNTIL = Until(fitted=0.9, floor=20, ceiling=100, decay=10)
RECIPE = Recipe(until=UNTIL, lr=0.4, warmup=0.2, schedule="linear", checks=2)


def went(course: Course, fitted_from: int) -> tuple[list[int], list[int]]:
    """(all stops, those at which the fit was looked at) of a training that fits its labels from a step on."""
    stops, looked, done = [], [], 0
    while (stop := course.next(done)) is not None:
        assert stop > done
        stops.append(stop)
        if course.open(stop):
            looked.append(stop)
            course.tell(stop, 0.95 if stop >= fitted_from else 0.85)
        done = stop
    return stops, looked


def test_it_looks_from_the_floor_on_and_decays_when_the_labels_are_fitted() -> None:
    stops, looked = went(Course(RECIPE, 50), fitted_from=30)
    assert looked == [10, 13, 16, 20, 25, 31]
    assert stops == [*looked, 36, 41]  # the decay, in as many parts as there are checks


def test_it_takes_the_floor_at_least_and_the_ceiling_at_most() -> None:
    assert went(Course(RECIPE, 50), fitted_from=0)[0][-1] == 20
    assert went(Course(RECIPE, 50), fitted_from=10**9)[0][-1] == 100


def test_the_rate_warms_up_over_a_share_of_the_floor_stays_and_falls_in_the_decay() -> None:
    course = Course(RECIPE, 50)
    assert [course.rate(step) for step in (1, 2, 4, 29)] == pytest.approx([0.1, 0.2, 0.4, 0.4])
    course.tell(30, 0.95)
    assert [course.rate(step) for step in (29, 30, 35, 39)] == pytest.approx([0.4, 0.4, 0.2, 0.04])


def test_progress_goes_with_the_ceiling_and_after_the_labels_are_fitted_on_to_one() -> None:
    course = Course(RECIPE, 50)
    assert [course.at(step) for step in (0, 20, 90)] == [(False, 0.0), (False, 0.2), (False, 0.9)]
    course.tell(30, 0.95)
    assert [course.at(step)[1] for step in (30, 35, 40)] == pytest.approx([0.3, 0.65, 1.0])


@given(turn=st.integers(10, 90), first=st.sampled_from([0.0, 0.5]))
def test_progress_never_goes_back_and_a_known_end_goes_as_an_open_one_that_never_fits(turn: int, first: float) -> None:
    course, steps = Course(RECIPE, 50, first), range(turn + 10)
    course.tell(course.first + turn, 1.0)
    shares = [course.at(course.first + step)[1] for step in steps]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] < 1
    never, known = Course(RECIPE, 50), Course(Recipe(steps=100), 50)
    never.tell(90, 0.0)
    assert [never.at(step)[1] for step in range(100)] == pytest.approx([known.at(step)[1] for step in range(100)])


def test_a_first_stage_is_a_share_of_the_floor_where_the_end_is_open() -> None:
    course = Course(RECIPE, 50, first=0.5)
    assert (course.first, course.most) == (10, 110)
    assert [course.next(done) for done in (0, 5, 10)] == [5, 10, 20]
    assert not any(course.open(stop) or course.judged(stop) for stop in (5, 10))
    assert course.open(20)


def test_validation_is_measured_where_the_end_is_known() -> None:
    course = Course(RECIPE, 50)
    assert not course.judged(20)
    course.tell(20, 1.0)
    assert [course.judged(stop) for stop in (20, 25, 30)] == [False, True, True]
    assert Course(Recipe(steps=8), 50).judged(2)


@pytest.mark.parametrize("wrong", [{"decay": 20}, {"floor": 101}, {"decay": 30, "floor": 25}])
def test_decay_floor_and_ceiling_must_be_in_this_order(wrong: dict) -> None:
    with pytest.raises(UserError, match="accepted: decay below floor, floor up to ceiling"):
        Until(**{"floor": 20, "ceiling": 100, "decay": 10, **wrong})


def test_milestones_need_a_length_that_is_known() -> None:
    with pytest.raises(UserError, match=r"recipe\.schedule=step .*set recipe\.steps or recipe\.epochs"):
        Recipe(schedule="step")
