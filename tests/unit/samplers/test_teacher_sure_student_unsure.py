"""Thresholds of each class against loops in plain Python, and what they are for.

N images, C classes, doubt = 1 − max p.
"""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from kdal_cli.samplers.least_confidence import least_confidence_score
from kdal_cli.samplers.teacher_sure_student_unsure import (
    most_doubt,
    teacher_sure_student_unsure,
    teacher_sure_student_unsure_score,
)


def answers(seed: int, n: int = 40, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Teacher's and student's logits, (N, C) each."""
    return tuple(3 * torch.randn(2, n, classes, generator=torch.Generator().manual_seed(seed)))  # type: ignore[return-value]


predictions = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.4])), min_size=1, max_size=25
)


@given(images=predictions, sure=st.floats(0, 1))
def test_a_threshold_is_the_doubt_of_the_last_that_counts_as_sure(images: list, sure: float) -> None:
    predicted, doubt = torch.tensor([c for c, _ in images]), torch.tensor([d for _, d in images])
    limits = most_doubt(doubt, predicted, 4, sure).tolist()
    for label in {c for c, _ in images}:
        theirs = sorted(doubt[predicted == label].tolist())
        assert limits[label] == theirs[max(1, round(sure * len(theirs))) - 1]


@given(seed=st.integers(0, 30), sure=st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]))
def test_the_score_is_the_students_doubt_below_zero_where_the_teacher_is_not_sure(seed: int, sure: float) -> None:
    teacher, student = answers(seed)
    doubt, predicted = least_confidence_score(teacher).tolist(), teacher.argmax(1).tolist()
    score = teacher_sure_student_unsure_score(teacher, student, sure).tolist()
    for i in range(len(teacher)):
        surer = sum(doubt[j] < doubt[i] for j in range(len(teacher)) if predicted[j] == predicted[i])
        passes = surer < max(1, round(sure * predicted.count(predicted[i])))
        assert score[i] == pytest.approx(float(least_confidence_score(student[i : i + 1])) - (0 if passes else 1))
        assert (0 <= score[i] <= 0.75) if passes else (-1 <= score[i] <= -0.25)


def test_a_class_on_which_the_teacher_is_never_very_sure_passes_its_share_too() -> None:
    """One threshold for all classes would pass none of it."""
    easy, hard = torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    scale = torch.linspace(1.0, 1.5, 10)[:, None]
    teacher = torch.cat([easy * scale, hard * scale])
    passed = teacher_sure_student_unsure_score(teacher, torch.zeros(20, 3), 0.5) > 0
    assert passed.tolist() == [False] * 5 + [True] * 5 + [False] * 5 + [True] * 5


def test_equally_sure_answers_pass_together() -> None:
    teacher = torch.tensor([[3.0, 0.0]]).repeat(6, 1)
    assert (teacher_sure_student_unsure_score(teacher, torch.zeros(6, 2), 0.5) > 0).all()


def test_saturated_confidence_still_has_a_threshold() -> None:
    """max p is 1 in float64 for all of them; what is left over is not."""
    teacher = torch.stack([torch.linspace(40, 60, 10), torch.zeros(10)], 1)
    assert (teacher_sure_student_unsure_score(teacher, torch.zeros(10, 2), 0.3) > 0).tolist() == [False] * 7 + [
        True
    ] * 3


def test_if_the_teacher_is_sure_of_everything_the_students_doubt_alone_counts() -> None:
    teacher, student = answers(5)
    score = teacher_sure_student_unsure_score(teacher, student, 1.0)
    assert torch.equal(score, least_confidence_score(student))


def test_what_the_teacher_is_not_sure_of_comes_only_when_nothing_else_is_left(make_pool, rng: Generator) -> None:
    teacher, student = answers(6)
    pool = replace(make_pool(student), teacher=make_pool(teacher).scorer)
    query = teacher_sure_student_unsure(pool, 40, rng, sure=0.25)
    passed = int((query.scores >= 0).sum())
    assert passed == sum(max(1, round(0.25 * n)) for n in teacher.argmax(1).bincount().tolist())
    for part in (query.rows[:passed], query.rows[passed:]):
        assert (least_confidence_score(student)[part].diff() <= 0).all()
