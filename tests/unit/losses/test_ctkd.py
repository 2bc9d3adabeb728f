"""Curriculum temperature: soft labels at a T whose gradient is reversed on its way to θ, and only there.

z logits, q = softmax(z/T), T = t_start + t_range · sigmoid(θ), λ strength, B batch, C classes.
"""

import itertools
import math

import pytest
import torch
from torch import Tensor

from kdal_cli.losses.ctkd import Ctkd, ctkd_loss, reversed_gradient
from kdal_cli.losses.kd import kd_loss
from kdal_cli.training.objective import Objective, Part
from kdal_cli.types import Batch, Examples, Output

EXAMPLES = Examples(torch.arange(5), torch.arange(0))
BATCH = Batch(torch.arange(5), torch.zeros(5), torch.zeros(5, 1, 1, 1), torch.zeros(0, dtype=torch.int64))

strengths = pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])


def logits(seed: int, batch: int = 5, classes: int = 7) -> Tensor:
    return 3 * torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shown(z: Tensor) -> Output:
    return Output(z, z)


def made(theta: float = 1.0, **settings: float) -> Ctkd:
    output = shown(logits(0))
    term = Ctkd(output, output, EXAMPLES, **settings).double()
    term.theta.data.fill_(theta)
    return term


def by_hand(student: list[float], teacher: list[float], temperature: float) -> float:
    def softened(z: list[float]) -> list[float]:
        powers = [math.exp(value / temperature) for value in z]
        return [power / math.fsum(powers) for power in powers]

    pairs = zip(softened(teacher), softened(student), strict=True)
    return temperature**2 * math.fsum(t * math.log(t / s) for t, s in pairs)


@pytest.mark.parametrize("theta", [-3.0, 0.0, 1.0, 2.5])
def test_the_temperature_is_its_start_and_a_share_of_its_range(theta: float) -> None:
    share = 1 / (1 + math.exp(-theta))
    assert made(theta).temperature().item() == pytest.approx(1 + 20 * share, abs=1e-12)
    assert made(theta, t_start=2.0, t_range=6.0).temperature().item() == pytest.approx(2 + 6 * share, abs=1e-12)


def test_it_starts_where_the_authors_code_does() -> None:
    output = shown(logits(0))
    assert Ctkd(output, output, EXAMPLES).temperature().item() == pytest.approx(15.6211716, abs=1e-5)


@pytest.mark.parametrize(("temperature", "expected"), [(1, 0.460541009), (2, 1.142109032), (4, 1.398232302)])
def test_without_a_range_it_has_the_values_of_the_hand_worked_table(temperature: float, expected: float) -> None:
    student, teacher = torch.tensor([[2.0, 1.5, 0.0, -1.0]]).double(), torch.tensor([[5.0, 1.0, 0.5, -2.0]]).double()
    term = made(t_start=temperature, t_range=0.0)
    assert term(shown(student), shown(teacher), BATCH).item() == pytest.approx(expected, abs=1e-8)


@strengths
def test_the_value_is_kd_at_its_temperature_whatever_the_strength(strength: float) -> None:
    student, teacher, term = logits(1), logits(2), made(0.4)
    value = term(shown(student), shown(teacher), BATCH, strength=strength)
    torch.testing.assert_close(value, kd_loss(student, teacher, term.temperature().item()), rtol=0, atol=1e-13)


@strengths
def test_the_gradient_of_theta_is_the_unreversed_one_times_minus_the_strength_to_the_bit(strength: float) -> None:
    student, teacher, term = logits(3), logits(4), made(0.4)
    theta = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    ctkd_loss(student, teacher, 1 + 20 * theta.sigmoid()).mean().backward()
    term(shown(student), shown(teacher), BATCH, strength=strength).mean().backward()
    assert theta.grad.abs() > 1e-3
    assert torch.equal(term.theta.grad, -strength * theta.grad)


@strengths
def test_the_gradient_of_the_student_is_that_of_kd_and_never_reversed(strength: float) -> None:
    student, teacher, term = logits(5).requires_grad_(), logits(6), made(0.4)
    value = term(shown(student), shown(teacher), BATCH, strength=strength)
    (ours,) = torch.autograd.grad(value.mean(), student)
    (of_kd,) = torch.autograd.grad(kd_loss(student, teacher, term.temperature().item()).mean(), student)
    torch.testing.assert_close(ours, of_kd, rtol=0, atol=1e-14)


def test_reversing_changes_no_bit_of_the_value_even_where_differences_round() -> None:
    values = torch.tensor([1e30, 1e-30, 0.1, -7.3], requires_grad=True)
    assert torch.equal(reversed_gradient(values, 0.7), values)


def test_the_gradient_of_the_temperature_comes_through_t_squared_and_both_softmaxes() -> None:
    """As in the authors' code, where T is a tensor in all three places; against central differences by hand."""
    student, teacher, temperature = [2.0, 1.5, 0.0, -1.0], [5.0, 1.0, 0.5, -2.0], 3.0
    t = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([student], dtype=torch.float64), torch.tensor([teacher], dtype=torch.float64)
    (ours,) = torch.autograd.grad(ctkd_loss(*rows, t).sum(), t)
    step = 1e-5
    ends = [by_hand(student, teacher, temperature + sign * step) for sign in (1, -1)]
    assert ours.item() == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-8)
    of_t_squared = 2 / temperature * by_hand(student, teacher, temperature)
    assert abs(of_t_squared) > 0.5  # so that a T² without gradient would show


def test_student_and_temperature_have_the_derivatives_of_finite_differences() -> None:
    student, teacher = logits(7, 3, 4).requires_grad_(), logits(8, 3, 4)
    temperature = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z, t: ctkd_loss(z, teacher, t), (student, temperature))


def test_an_optimizer_that_descends_lets_theta_climb_the_loss_and_no_strength_lets_it_rest() -> None:
    student, teacher = shown(logits(9)), shown(logits(10))
    for strength in (1.0, 0.0):
        term = made(-1.0)
        optimizer = torch.optim.SGD(term.parameters(), lr=0.01)
        losses = []
        for _ in range(20):
            optimizer.zero_grad()
            loss = term(student, teacher, BATCH, strength=strength).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert all(after > before if strength else after == before for before, after in itertools.pairwise(losses))


def test_theta_has_a_finite_gradient_at_logits_of_ten_thousand() -> None:
    student, teacher = 1e4 * torch.eye(5), 1e4 * torch.eye(5).flip(0)
    term = made().float()
    term(shown(student), shown(teacher), BATCH).mean().backward()
    assert term.theta.grad.isfinite()


def test_theta_is_one_number_and_trains_as_the_objectives() -> None:
    term = made()
    (theta,) = Objective(1.0, {"ctkd": Part(term, 1.0)}).parameters()
    assert theta is term.theta
    assert theta.numel() == 1


def test_the_log_is_told_the_temperature_as_it_is() -> None:
    assert Objective(1.0, {"ctkd": Part(made(theta=0.0), 1.0)}).settings(0.5) == {"ctkd.temperature": 11.0}
