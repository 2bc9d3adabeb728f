"""What a teacher will take is told from a few steps, and nothing is left of them."""

import math

import pytest
import torch

from kdal_cli.lab import forecast
from kdal_cli.lab.teacher import Member
from kdal_cli.training.job import Fitted
from kdal_cli.training.recipe import Recipe, Until


def test_steps_are_those_of_the_recipe_and_seconds_a_few_timed_steps_make(bench, student) -> None:
    known = forecast.of_teacher(bench(), Member(student, Recipe(epochs=4.0, batch=8)), 80)
    assert (known.steps, known.open) == (40, False)
    assert known.seconds > 0
    open_end = forecast.of_teacher(bench(), Member(student, Recipe(until=Until(floor=30, decay=10), batch=8)), 80)
    assert (open_end.steps, open_end.open) == (30, True)


def test_a_run_computes_the_same_after_a_forecast(bench, student) -> None:
    lab = bench()
    before, state = lab.flop_meter.flops, torch.get_rng_state()
    weights = lab.network(student, 0).state_dict()
    forecast.of_teacher(lab, Member(student, Recipe(steps=5, batch=8)), 80)
    assert lab.flop_meter.flops == before
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in lab.network(student, 0).state_dict().items())
    assert not (lab.run.folder / "timings.csv").exists()


@pytest.mark.parametrize(("seconds", "told"), [(0.01, 1), (3.4, 3), (47.3, 47), (473.0, 470), (8_460.0, 8_500)])
def test_two_digits_are_told(seconds: float, told: int) -> None:
    assert forecast.rounded(seconds) == told


def some(recipe: Recipe) -> Fitted:
    """A training of 100 images a step, .1 s for the student and .4 s for the teacher's answers about them."""
    steps = recipe.steps or 0
    return Fitted(
        steps, 100 * steps, torch.arange(1), 1.0, 100 * steps, 0.5 * steps, 0.4 * steps, "fp32", {}, None, None
    )


@pytest.mark.parametrize(
    ("kept", "steps", "seconds"),
    [
        (None, 1000, 500.0),  # asked at every step
        (10**9, 1000, 500.0),  # of ever new views
        (1000, 1000, 104.0),  # of 1,000 images, each in one view
        (1000, 10, 1 + 4 * (1 - math.exp(-1))),  # drawn as often as there are of them
    ],
)
def test_answers_that_are_kept_are_computed_once(kept: int | None, steps: int, seconds: float) -> None:
    told = forecast._forecast(Recipe(steps=steps), 100, some, kept)
    assert told.seconds == pytest.approx(seconds, rel=1e-3)
    assert not told.open
