"""Bounds on how often a teacher is wrong: against tables and by simulation, and the threshold that follows."""

import math

import pytest
import torch

from kdal_cli.labels.promise import audited, broken, interval, lower, threshold, told, upper


def test_the_interval_is_that_of_clopper_and_pearson() -> None:
    """Their own example: 4 of 10 lie between 0.1216 and 0.7376."""
    assert interval(4, 10) == pytest.approx((0.1216, 0.7376), abs=1e-4)


@pytest.mark.parametrize("images", [1, 10, 59])
def test_where_nothing_is_wrong_the_bound_is_a_power(images: int) -> None:
    assert upper(0, images, 0.95) == pytest.approx(1 - 0.05 ** (1 / images))
    assert lower(0, images, 0.95) == 0.0
    assert upper(images, images, 0.95) == 1.0


def test_58_right_answers_do_not_promise_five_percent_and_59_do() -> None:
    for images, least in ((58, math.inf), (59, 0.9)):
        confidence = torch.full((images,), 0.9, dtype=torch.float64)
        assert threshold(confidence, torch.ones(images, dtype=torch.bool), 0.05, 0.95) == pytest.approx(least)


def test_the_largest_share_is_taken_that_keeps_the_promise() -> None:
    """400 images, the less sure half of them wrong half of the time: the threshold lies a little below the middle."""
    confidence = torch.linspace(1, 0, 400)
    right = torch.ones(400, dtype=torch.bool)
    right[200::2] = False
    least = threshold(confidence, right, 0.05, 0.95)
    n = int((confidence >= least).sum())
    assert 200 < n < 220
    assert upper(int((~right[:n]).sum()), n, 0.95) <= 0.05


def test_answers_of_one_confidence_are_taken_together_or_not_at_all() -> None:
    confidence = torch.cat([torch.full((100,), 0.9), torch.full((100,), 0.5)])
    right = torch.ones(200, dtype=torch.bool)
    right[110:150] = False
    assert threshold(confidence, right, 0.05, 0.95) == pytest.approx(0.9)


def test_the_promise_is_kept_as_often_as_it_says() -> None:
    """Over 400 sets of validation labels of a teacher whose error at each confidence is known."""
    rng, kept = torch.Generator().manual_seed(0), 0
    for _ in range(400):
        confidence = torch.rand(300, generator=rng)
        wrong = torch.rand(300, generator=rng) < 0.2 * (1 - confidence)
        least = threshold(confidence, ~wrong, 0.05, 0.9)
        kept += not math.isfinite(least) or 0.2 * (1 - (1 + least) / 2) <= 0.05  # the mean error above the threshold
    assert kept >= 0.87 * 400  # 90 %, less two standard deviations


def test_an_audit_breaks_the_promise_when_chance_does_not_explain_it() -> None:
    assert not broken([], 0.05, 0.95)
    assert not broken([False], 0.05, 0.95)  # 5 % of the time
    assert broken([False, False, True], 0.05, 0.95)
    assert not broken([False] * 5 + [True] * 95, 0.05, 0.95)
    assert broken([False] * 12 + [True] * 88, 0.05, 0.95)


def test_the_columns_of_a_curve() -> None:
    assert audited(7, [True] * 6 + [False] * 4) == {
        "labels_by_teacher": 7,
        "audited": 10,
        "teacher_error": 0.4,
        "teacher_error_low": pytest.approx(0.1216, abs=1e-4),
        "teacher_error_high": pytest.approx(0.7376, abs=1e-4),
    }
    nothing = audited(0, [])
    assert math.isnan(nothing["teacher_error"])
    assert (nothing["teacher_error_low"], nothing["teacher_error_high"]) == (0.0, 1.0)


def test_what_audits_found_is_told_with_its_interval() -> None:
    assert told(7, [True] * 6 + [False] * 4) == (
        "7 more labels are the teacher's; audits found it wrong in 4 of 10 images (12.2% to 73.8%, 95 % interval)"
    )
    assert told(0, []) == "0 more labels are the teacher's; none was audited"
