"""Transformed teacher matching against powers of probabilities by hand, and the paper's theorem.

z logits, p = softmax(z), q = softmax(z/T), γ = 1/T, s student, t teacher, B batch, C classes.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdal_cli.losses.kd import kd_loss
from kdal_cli.losses.ttm import ttm, ttm_loss
from kdal_cli.types import Batch, Output

temperatures = pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 10.0])


def logits(seed: int, batch: int = 5, classes: int = 7) -> Tensor:
    return 3 * torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(z: list[float]) -> list[float]:
    powers = [math.exp(value) for value in z]
    return [power / math.fsum(powers) for power in powers]


def by_hand(student: list[float], teacher: list[float], temperature: float) -> float:
    powers = [p ** (1 / temperature) for p in softmax(teacher)]
    transformed = [power / math.fsum(powers) for power in powers]
    return math.fsum(t * math.log(t / s) for t, s in zip(transformed, softmax(student), strict=True))


@temperatures
def test_the_teacher_is_raised_to_a_power_and_the_student_is_not_softened(temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    expected = [by_hand(s, t, temperature) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    assert ttm_loss(student, teacher, temperature).tolist() == pytest.approx(expected, abs=1e-11)


@temperatures
def test_the_gradient_is_the_student_less_the_softened_teacher_with_no_power_of_t(temperature: float) -> None:
    student, teacher = logits(2).requires_grad_(), logits(3)
    ttm_loss(student, teacher, temperature).sum().backward()
    expected = F.softmax(student.detach(), 1) - F.softmax(teacher / temperature, 1)
    torch.testing.assert_close(student.grad, expected, rtol=0, atol=1e-14)


@temperatures
def test_it_is_kd_less_a_renyi_entropy_of_the_student(temperature: float) -> None:
    """H(q_t, p_s) = T · H(q_t, q_s) − (T − 1) · H_γ(p_s), the paper's reading of it as a regulariser.

    H(a, b) is the cross-entropy, H_γ = log(Σ p^γ) / (1 − γ) the Rényi entropy.
    """
    student, teacher, gamma = logits(4), logits(5), 1 / temperature
    log_q = F.log_softmax(teacher / temperature, 1)
    own = -(log_q.exp() * log_q).sum(1)
    power_sum = F.softmax(student, 1).pow(gamma).sum(1)
    renyi = power_sum.log() / (1 - gamma) if temperature != 1 else torch.zeros(5).double()
    soft = kd_loss(student, teacher, temperature) / temperature**2 + own
    expected = temperature * soft - (temperature - 1) * renyi - own
    torch.testing.assert_close(ttm_loss(student, teacher, temperature), expected, rtol=0, atol=1e-12)


@temperatures
def test_it_is_zero_where_the_student_answers_as_the_softened_teacher(temperature: float) -> None:
    teacher = logits(6)
    value = ttm_loss(teacher / temperature + 3, teacher, temperature)
    torch.testing.assert_close(value, torch.zeros(5).double(), rtol=0, atol=1e-14)


def test_at_a_temperature_of_one_it_is_kd() -> None:
    student, teacher = logits(7), logits(8)
    assert torch.equal(ttm_loss(student, teacher, 1.0), kd_loss(student, teacher, 1.0))


def test_the_derivative_agrees_with_finite_differences() -> None:
    student, teacher = logits(9, 3, 4).requires_grad_(), logits(10, 3, 4)
    assert torch.autograd.gradcheck(lambda z: ttm_loss(z, teacher, 10.0), student)


def test_powers_of_probabilities_as_the_authors_code_has_them_lose_a_class_that_the_softened_logits_keep() -> None:
    """In float32 exp(−110) is 0, and so is its 20th root; softmax(z/20) gives the class 0.4 %."""
    teacher = torch.tensor([[110.0, 0.0]])
    powers = F.softmax(teacher, 1).pow(1 / 20)
    lost = powers / powers.sum(1, keepdim=True)
    student = torch.zeros(1, 2, requires_grad=True)
    ttm_loss(student, teacher, 20.0).sum().backward()
    kept = 0.5 - student.grad[0, 1].item()  # the gradient is the student's half less the teacher's share
    assert lost[0, 1].item() == 0
    assert kept == pytest.approx(math.exp(-5.5) / (1 + math.exp(-5.5)), rel=1e-4)


def test_the_term_is_its_formula_on_the_logits_of_two_outputs() -> None:
    student, teacher = logits(11), logits(12)
    batch = Batch(torch.arange(5), torch.zeros(5), torch.zeros(5, 1, 1, 1), torch.zeros(0, dtype=torch.int64))
    value = ttm(Output(student, student), Output(teacher, teacher), batch, temperature=6.0)
    assert torch.equal(value, ttm_loss(student, teacher, 6.0))
