"""Refined logits against loops, and as what they refine: plain soft labels where the teacher is right.

z logits, q = softmax(z/T), y target, s student, t teacher, B batch, C classes.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdal_cli.losses.kd import kd_loss
from kdal_cli.losses.rld import confidence_loss, correlation_loss, one_against_rest, rld
from kdal_cli.types import Batch, Output

TARGET = torch.tensor([3, 0, 6, 2, 2])

temperatures = pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
parts = pytest.mark.parametrize("part", [confidence_loss, correlation_loss])


def logits(seed: int, batch: int = 5, classes: int = 7) -> Tensor:
    return 3 * torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def row(*z: float) -> Tensor:
    return torch.tensor([z], dtype=torch.float64)


def softmax(z: list[float], temperature: float) -> list[float]:
    highest = max(z)
    powers = [math.exp((value - highest) / temperature) for value in z]
    return [power / math.fsum(powers) for power in powers]


def divergence(p: list[float], q: list[float]) -> float:
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def confidence_by_hand(student: list[float], teacher: list[float], y: int, temperature: float) -> float:
    sure, ours = max(softmax(teacher, temperature)), softmax(student, temperature)[y]
    return temperature**2 * divergence([sure, 1 - sure], [ours, 1 - ours])


def correlation_by_hand(student: list[float], teacher: list[float], y: int, temperature: float) -> float:
    left = [c for c, z in enumerate(teacher) if z < teacher[y]]
    if not left:
        return 0.0
    pair = (softmax([z[c] for c in left], temperature) for z in (teacher, student))
    return temperature**2 * divergence(*pair)


@temperatures
@pytest.mark.parametrize("seed", range(4))
def test_both_parts_are_what_loops_over_the_definition_give(seed: int, temperature: float) -> None:
    student, teacher = logits(2 * seed), logits(2 * seed + 1)
    for part, naive in ((confidence_loss, confidence_by_hand), (correlation_loss, correlation_by_hand)):
        rows = zip(student.tolist(), teacher.tolist(), TARGET.tolist(), strict=True)
        expected = [naive(s, t, y, temperature) for s, t, y in rows]
        assert part(student, teacher, TARGET, temperature).tolist() == pytest.approx(expected, abs=1e-9, rel=1e-9)


@temperatures
def test_where_the_teacher_is_right_they_add_up_to_kd(temperature: float) -> None:
    """KD = confidence + (1 − q_t,y) · correlation, the decomposition of Zhao et al. 2022, arXiv:2203.08679, eq. 6."""
    student, teacher = logits(8), logits(9)
    target = teacher.argmax(1)
    rest = 1 - F.softmax(teacher / temperature, 1).gather(1, target[:, None])[:, 0]
    confidence = confidence_loss(student, teacher, target, temperature)
    correlation = correlation_loss(student, teacher, target, temperature)
    expected = kd_loss(student, teacher, temperature)
    torch.testing.assert_close(confidence + rest * correlation, expected, rtol=0, atol=1e-11)


def test_as_sure_of_the_label_as_the_teacher_is_of_its_wrong_choice_costs_nothing() -> None:
    teacher, student = row(1.0, 5.0, 0.0), row(5.0, 0.0, 1.0)
    assert confidence_loss(student, teacher, torch.tensor([0]), 1.0).item() == pytest.approx(0, abs=1e-15)
    assert confidence_loss(teacher, teacher, torch.tensor([0]), 1.0).item() > 1  # a copy of the teacher is wrong too


def test_the_label_and_all_that_the_teacher_ranks_as_high_have_no_part_in_the_correlation() -> None:
    teacher, target = row(4.0, 1.0, 2.0, 2.0, 0.0, -1.0), torch.tensor([2])  # 0 is above the label, 3 is even with it
    student = row(0.3, -0.2, 0.5, 1.1, 0.7, 0.1).requires_grad_()
    value = correlation_loss(student, teacher, target, 4.0)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert torch.equal(gradient[0, [0, 2, 3]], torch.zeros(3).double())
    assert (gradient[0, [1, 4, 5]] != 0).all()
    other_student = student.detach() + torch.tensor([9.0, 0.0, -9.0, 5.0, 0.0, 0.0])
    other_teacher = row(99.0, 1.0, 3.0, 7.0, 0.0, -1.0)
    assert torch.equal(correlation_loss(other_student, other_teacher, target, 4.0), value)


@pytest.mark.parametrize("teacher", [row(3.0, 1.0, 2.0, 0.0), row(3.0, 1.0, 0.0, -1.0)], ids=["none", "one"])
def test_with_fewer_than_two_classes_below_the_label_the_correlation_and_its_gradient_are_zero(teacher: Tensor) -> None:
    target = torch.tensor([3 if teacher[0, 3] == 0 else 2])
    student = row(0.3, -0.2, 0.5, 1.1).requires_grad_()
    value = correlation_loss(student, teacher, target, 4.0)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert value.item() == 0
    assert torch.equal(gradient, torch.zeros_like(student))


@parts
def test_the_derivative_agrees_with_finite_differences(part) -> None:
    student, teacher = logits(10, 3, 5).requires_grad_(), logits(11, 3, 5)
    assert torch.autograd.gradcheck(lambda z: part(z, teacher, torch.tensor([1, 3, 0]), 2.5), student)


@parts
def test_adding_a_constant_to_every_logit_changes_nothing(part) -> None:
    student, teacher = logits(12), logits(13)
    moved = part(student + 7, teacher - 3, TARGET, 2.0)
    torch.testing.assert_close(moved, part(student, teacher, TARGET, 2.0), rtol=0, atol=1e-11)


def test_one_class_and_the_rest_are_two_log_probabilities_that_sum_to_one_however_sure() -> None:
    pair = one_against_rest(torch.tensor([[1e4, 0.0, 0.0], [-1e4, 0.0, 0.0]]), torch.tensor([0, 0]), 1.0)
    torch.testing.assert_close(pair, torch.tensor([[0.0, math.log(2) - 1e4], [-1e4 - math.log(2), 0.0]]))
    torch.testing.assert_close(one_against_rest(logits(14), TARGET, 2.0).exp().sum(1), torch.ones(5).double())


def test_the_log_of_summed_probabilities_as_the_authors_code_has_it_is_infinite_for_a_sure_student() -> None:
    student, teacher, target = torch.tensor([[0.0, 200.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    theirs = F.kl_div(F.softmax(student, 1).log(), F.softmax(teacher, 1), reduction="batchmean")
    sure = 1 / (1 + math.exp(-1))
    expected = 200 * sure + sure * math.log(sure) + (1 - sure) * math.log(1 - sure)
    assert theirs.item() == math.inf
    assert confidence_loss(student, teacher, target, 1.0).item() == pytest.approx(expected, rel=1e-6)


def test_the_term_weighs_its_parts_and_takes_the_teachers_first_choice_where_there_is_no_label() -> None:
    student, teacher, labels = logits(15), logits(16), TARGET[:2]
    batch = Batch(torch.arange(5), torch.zeros(5), torch.zeros(5, 1, 1, 1), labels)
    target = torch.cat([labels, teacher[2:].argmax(1)])
    outputs = Output(student, student), Output(teacher, teacher), batch
    weights = {"confidence_weight": 0.5, "correlation_weight": 3.0}
    value = rld(*outputs, temperature=2.0, confidence_temperature=1.5, **weights)
    expected = 0.5 * confidence_loss(student, teacher, target, 1.5) + 3 * correlation_loss(student, teacher, target, 2)
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-13)
