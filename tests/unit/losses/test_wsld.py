"""Weighted soft labels against the paper's formula by hand; the weight is no road for a gradient.

z logits, q = softmax(z/T), y target, s student, t teacher, B batch, C classes.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdal_cli.losses.soft_ce import soft_ce_loss
from kdal_cli.losses.wsld import soft_label_weight, wsld, wsld_loss
from kdal_cli.types import Batch, Output

TARGET = torch.tensor([3, 0, 6, 2, 2])


def logits(seed: int, batch: int = 5, classes: int = 7) -> Tensor:
    return 3 * torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(z: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in z]
    return [power / math.fsum(powers) for power in powers]


def by_hand(student: list[float], teacher: list[float], y: int, temperature: float) -> float:
    """Zhou et al. 2021, with the 1e-7 of the authors' code."""
    ratio = -math.log(softmax(student, 1)[y]) / (-math.log(softmax(teacher, 1)[y]) + 1e-7)
    pairs = zip(softmax(teacher, temperature), softmax(student, temperature), strict=True)
    return (1 - math.exp(-ratio)) * temperature**2 * -math.fsum(t * math.log(s) for t, s in pairs)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_the_value_is_the_papers_formula(temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    rows = zip(student.tolist(), teacher.tolist(), TARGET.tolist(), strict=True)
    expected = [by_hand(s, t, y, temperature) for s, t, y in rows]
    assert wsld_loss(student, teacher, TARGET, temperature).tolist() == pytest.approx(expected, abs=1e-9, rel=1e-11)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_gradient_is_the_weight_times_that_of_kd_for_the_weight_has_none(temperature: float) -> None:
    student, teacher = logits(2).requires_grad_(), logits(3)
    (ours,) = torch.autograd.grad(wsld_loss(student, teacher, TARGET, temperature).sum(), student)
    apart = F.softmax(student.detach() / temperature, 1) - F.softmax(teacher / temperature, 1)
    weight = soft_label_weight(student, teacher, TARGET)
    assert not weight.requires_grad
    torch.testing.assert_close(ours, temperature * weight[:, None] * apart, rtol=0, atol=1e-13)


def test_with_the_weight_held_it_has_the_derivative_of_finite_differences() -> None:
    student, teacher, target = logits(4, 3, 4).requires_grad_(), logits(5, 3, 4), torch.tensor([1, 3, 0])
    weight = soft_label_weight(student, teacher, target)
    assert torch.autograd.gradcheck(lambda z: weight * soft_ce_loss(z, teacher, 2.5), student)
    value = wsld_loss(student, teacher, target, 2.5)
    torch.testing.assert_close(value, weight * soft_ce_loss(student, teacher, 2.5), rtol=0, atol=0)


def test_a_student_even_with_the_teacher_on_the_label_weighs_one_minus_one_over_e() -> None:
    teacher = logits(6)
    expected = torch.full((5,), 1 - math.exp(-1)).double()
    torch.testing.assert_close(soft_label_weight(teacher, teacher, TARGET), expected, rtol=0, atol=1e-5)


def test_the_better_the_student_knows_the_label_the_less_it_weighs() -> None:
    teacher = torch.zeros(6, 4).double()
    student = torch.zeros(6, 4).double()
    student[:, 1] = torch.tensor([-50.0, -2.0, 0.0, 2.0, 10.0, 50.0])
    weight = soft_label_weight(student, teacher, torch.ones(6, dtype=torch.int64))
    assert (weight.diff() < 0).all()
    assert weight[0] == pytest.approx(1, abs=1e-12)
    assert weight[-1] == pytest.approx(3 * math.exp(-50) / math.log(4), rel=1e-6)  # 1 − exp would round to 0


@pytest.mark.parametrize(("student", "expected"), [(0.0, 1.0), (1e4, 0.0)], ids=["it doubts", "so is it"])
def test_where_the_teacher_is_certain_and_right_all_counts_unless_the_student_is_so_too(
    student: float, expected: float
) -> None:
    certain = torch.tensor([[1e4, 0.0, 0.0]])
    ours = torch.tensor([[student, 0.0, 0.0]], requires_grad=True)
    assert soft_label_weight(ours, certain, torch.tensor([0])).item() == expected
    wsld_loss(ours, certain, torch.tensor([0]), 4.0).sum().backward()
    assert ours.grad.isfinite().all()


def test_an_image_without_a_label_takes_the_teachers_first_choice() -> None:
    student, teacher, labels = logits(7), logits(8), TARGET[:2]
    batch = Batch(torch.arange(5), torch.zeros(5), torch.zeros(5, 1, 1, 1), labels)
    target = torch.cat([labels, teacher[2:].argmax(1)])
    value = wsld(Output(student, student), Output(teacher, teacher), batch, temperature=3.0)
    assert torch.equal(value, wsld_loss(student, teacher, target, 3.0))
