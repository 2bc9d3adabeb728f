"""How a model is trained, in numbers: how long, and how fast at which step."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdal_cli.errors import UserError
from kdal_cli.training.recipe import Recipe


def test_steps_and_epochs_are_not_both_asked_for() -> None:
    with pytest.raises(UserError, match=r"recipe\.steps=10 and recipe\.epochs=2\.0: set one of the two, or neither"):
        Recipe(steps=10, epochs=2.0)


def test_steps_stay_equal_over_the_rounds_epochs_grow_with_the_labels_and_with_neither_the_end_is_open() -> None:
    assert [Recipe(steps=200).length(labels) for labels in (20, 1000)] == [200, 200]
    assert [Recipe(epochs=3.0, batch=10).length(labels) for labels in (100, 200, 1)] == [30, 60, 1]
    assert Recipe().length(100) is None


def test_the_milestones_of_the_distillation_benchmark_divide_the_rate_by_ten() -> None:
    """Tian et al. 2020: 240 epochs, 0.05, divided after 150, 180 and 210."""
    recipe = Recipe(epochs=240.0, lr=0.05, schedule="step", milestones=(0.625, 0.75, 0.875), gamma=0.1)
    rates = {epoch: recipe.rate(epoch / 240) for epoch in (0, 149, 150, 179, 180, 209, 210, 239)}
    expected = {0: 0.05, 149: 0.05, 150: 5e-3, 179: 5e-3, 180: 5e-4, 209: 5e-4, 210: 5e-5, 239: 5e-5}
    assert rates == pytest.approx(expected)


def test_the_schedules_have_the_shapes_of_their_names() -> None:
    quarter = {name: Recipe(steps=1, lr=2.0, schedule=name).rate(0.25) for name in ("constant", "linear", "cosine")}  # type: ignore[arg-type]
    assert quarter == pytest.approx({"constant": 2.0, "linear": 1.5, "cosine": 1 + math.cos(math.pi / 4)})


def test_the_warm_up_is_a_straight_line_to_the_full_rate_and_the_schedule_follows_it() -> None:
    recipe = Recipe(steps=100, lr=0.4, warmup=0.2, schedule="linear")
    assert [recipe.rate(p) for p in (0.05, 0.1, 0.2, 0.6)] == pytest.approx([0.1, 0.2, 0.4, 0.2])


@given(
    warmup=st.one_of(st.just(0.0), st.floats(1e-6, 1.0)),
    schedule=st.sampled_from(["constant", "linear", "cosine", "step"]),
    progress=st.floats(0, 1, exclude_max=True),
)
@settings(deadline=None, max_examples=200)
def test_the_rate_is_never_above_the_one_in_the_recipe_nor_below_zero(warmup: float, schedule, progress: float) -> None:
    recipe = Recipe(steps=1, lr=0.3, warmup=warmup, schedule=schedule, milestones=(0.3, 0.6))
    assert 0 <= recipe.rate(progress) <= 0.3 * (1 + 1e-12)


def test_what_mixes_images_is_told_as_it_is_typed() -> None:
    assert Recipe().mixes is None
    assert Recipe(mixup=0.2, cutmix=1.0).mixes == "recipe.mixup=0.2 and recipe.cutmix=1"


def test_a_label_that_is_smoothed_away_is_refused() -> None:
    with pytest.raises(UserError, match=r"recipe\.label_smoothing=1: below 1"):
        Recipe(label_smoothing=1.0)


def test_settings_that_a_training_may_do_without_change_no_teacher_that_was_trained_before() -> None:
    assert Recipe(mixup=0.0).identity == Recipe().identity
    assert Recipe(mixup=0.1).identity != Recipe().identity
    assert "mixup" not in Recipe().identity
