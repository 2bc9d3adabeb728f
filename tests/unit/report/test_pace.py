"""Speed and time left, on a clock that is told what to say."""

import math

import pytest

from kdal_cli.report.pace import MEMORY_S, Pace


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def run(pace: Pace, clock: Clock, steps: int, seconds: float) -> None:
    for _ in range(steps):
        clock.now += seconds
        pace.advance(1, 128)


def test_a_steady_speed(clock: Clock) -> None:
    pace = Pace(400, clock=clock)
    assert math.isnan(pace.images_per_s)
    assert math.isnan(pace.left)
    run(pace, clock, 100, 0.02)
    assert pace.images_per_s == pytest.approx(128 / 0.02)
    assert pace.mean_images_per_s == pytest.approx(128 / 0.02)
    assert pace.left == pytest.approx(300 * 0.02, rel=0.02)
    assert pace.elapsed == pytest.approx(2)


def test_a_sample_is_taken_ten_times_a_second_at_most(clock: Clock) -> None:
    pace = Pace(400, clock=clock)
    shown = 0
    for _ in range(1000):
        clock.now += 0.001
        shown += pace.advance(1, 1)
    assert 9 <= shown <= 10


@pytest.mark.parametrize("seconds", [0.11, 1.0])
def test_old_speeds_fade_with_time_not_with_samples(clock: Clock, seconds: float) -> None:
    pace = Pace(10_000, clock=clock)
    run(pace, clock, round(20 / seconds), seconds)
    before = pace.steps_per_s
    run(pace, clock, round(2 * MEMORY_S / seconds), 2 * seconds)  # half as fast, for twice as long
    assert pace.steps_per_s == pytest.approx(before / 2 + before / 2 * math.exp(-4), rel=0.02)


def test_time_left_runs_down_between_steps(clock: Clock) -> None:
    pace = Pace(10, clock=clock)
    run(pace, clock, 1, 2)
    assert pace.left == pytest.approx(18)
    clock.now += 1.5
    assert pace.left == pytest.approx(16.5)
    clock.now += 100
    assert pace.left == 0


def test_what_was_done_before_is_no_speed(clock: Clock) -> None:
    pace = Pace(100, clock=clock)
    pace.skip(90)
    clock.now += 1
    pace.advance(1, 8)
    assert (pace.done, pace.images_per_s, pace.left) == (91, 8, 9)


def test_without_images_or_without_a_number_of_steps(clock: Clock) -> None:
    pace = Pace(0, clock=clock)
    assert math.isnan(pace.mean_images_per_s)
    clock.now += 1
    assert pace.advance(3, 0)
    assert pace.images_per_s == 0
    assert math.isnan(pace.left)
