"""The weight of weighted transformed teacher matching: a power sum of the teacher's answer, by hand and at its ends.

z logits, p = softmax(z), q = softmax(z/T), γ = 1/T, U = Σ p_t^γ, s student, t teacher, B batch, C classes.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdal_cli.losses.kd import kd_loss
from kdal_cli.losses.wttm import power_sum, wttm, wttm_loss
from kdal_cli.types import Batch, Output

temperatures = pytest.mark.parametrize("temperature", [0.5, 1.0, 5.0])


def logits(seed: int, batch: int = 5, classes: int = 7) -> Tensor:
    return 3 * torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(z: list[float]) -> list[float]:
    powers = [math.exp(value) for value in z]
    return [power / math.fsum(powers) for power in powers]


def by_hand(student: list[float], teacher: list[float], temperature: float) -> float:
    powers = [p ** (1 / temperature) for p in softmax(teacher)]
    total = math.fsum(powers)
    terms = [t / total * math.log(t / total / s) for t, s in zip(powers, softmax(student), strict=True)]
    return total * math.fsum(terms)


@temperatures
def test_the_divergence_is_weighed_by_the_sum_that_normalises_the_powers(temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    expected = [by_hand(s, t, temperature) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    assert wttm_loss(student, teacher, temperature).tolist() == pytest.approx(expected, abs=1e-11)


@temperatures
def test_the_gradient_is_the_weighted_difference_of_the_answers(temperature: float) -> None:
    student, teacher = logits(2).requires_grad_(), logits(3)
    wttm_loss(student, teacher, temperature).sum().backward()
    weight = F.softmax(teacher, 1).pow(1 / temperature).sum(1, keepdim=True)
    apart = F.softmax(student.detach(), 1) - F.softmax(teacher / temperature, 1)
    torch.testing.assert_close(student.grad, weight * apart, rtol=0, atol=1e-13)


@pytest.mark.parametrize("temperature", [2.0, 5.0, 20.0])
def test_the_weight_is_one_for_a_certain_teacher_and_largest_for_an_even_one(temperature: float) -> None:
    certain, even = torch.tensor([[1e4, 0.0, -1e4, 0.0]]).double(), torch.full((1, 4), 1e4).double()
    most = 4 ** (1 - 1 / temperature)
    assert power_sum(certain, temperature).item() == pytest.approx(1, abs=1e-12)
    assert power_sum(even, temperature).item() == pytest.approx(most, rel=1e-12)
    between = power_sum(logits(4, classes=4), temperature)
    assert ((between > 1) & (between < most)).all()


def test_at_a_temperature_of_one_every_weight_is_one_and_it_is_kd() -> None:
    student, teacher = logits(5), logits(6)
    torch.testing.assert_close(power_sum(teacher, 1.0), torch.ones(5).double(), rtol=0, atol=1e-14)
    torch.testing.assert_close(wttm_loss(student, teacher, 1.0), kd_loss(student, teacher, 1.0), rtol=0, atol=1e-13)


def test_adding_a_constant_to_every_logit_changes_nothing() -> None:
    student, teacher = logits(7), logits(8)
    moved = wttm_loss(student + 40, teacher - 60, 5.0)
    torch.testing.assert_close(moved, wttm_loss(student, teacher, 5.0), rtol=0, atol=1e-11)


def test_the_derivative_agrees_with_finite_differences() -> None:
    student, teacher = logits(9, 3, 4).requires_grad_(), logits(10, 3, 4)
    assert torch.autograd.gradcheck(lambda z: wttm_loss(z, teacher, 5.0), student)


def test_the_term_is_its_formula_on_the_logits_of_two_outputs() -> None:
    student, teacher = logits(11), logits(12)
    batch = Batch(torch.arange(5), torch.zeros(5), torch.zeros(5, 1, 1, 1), torch.zeros(0, dtype=torch.int64))
    value = wttm(Output(student, student), Output(teacher, teacher), batch, temperature=6.0)
    assert torch.equal(value, wttm_loss(student, teacher, 6.0))
