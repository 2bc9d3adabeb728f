"""Reverse KL, Jensen-Shannon and the two regressions, against sums by hand, and against each other.

z logits, q = softmax(z/T), s student, t teacher, B batch, C classes.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kdal_cli.losses.js import js, js_loss
from kdal_cli.losses.kd import kd_loss
from kdal_cli.losses.logit_mse import logit_mse, logit_mse_loss
from kdal_cli.losses.prob_mse import prob_mse, prob_mse_loss
from kdal_cli.losses.reverse_kl import reverse_kl, reverse_kl_loss
from kdal_cli.types import Batch, Output

STUDENT, TEACHER = [2.0, 1.5, 0.0, -1.0], [5.0, 1.0, 0.5, -2.0]
SOFTENED = [reverse_kl_loss, js_loss, prob_mse_loss]

temperatures = pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
two_rows = st.integers(2, 6).flatmap(
    lambda c: st.tuples(*[st.lists(st.floats(-30, 30), min_size=c, max_size=c)] * 2)
)  # fmt: skip


def row(logits: list[float]) -> Tensor:
    return torch.tensor([logits], dtype=torch.float64)


def random_logits(seed: int, batch: int = 5, classes: int = 7) -> Tensor:
    return 3 * torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(logits: list[float], temperature: float) -> list[float]:
    """By hand, with nothing of torch."""
    highest = max(logits)
    powers = [math.exp((z - highest) / temperature) for z in logits]
    return [power / math.fsum(powers) for power in powers]


def divergence(p: list[float], q: list[float]) -> float:
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize(
    ("temperature", "backwards", "shannon"),
    [(1, 0.931601164, 0.137965844), (2, 1.337622666, 0.298070131), (4, 1.385076691, 0.344855265)],
)
def test_the_values_of_the_hand_worked_case(temperature: float, backwards: float, shannon: float) -> None:
    """The logits of the table of METHODS.md, worked out with math.fsum alone."""
    q_s, q_t = softmax(STUDENT, temperature), softmax(TEACHER, temperature)
    middle = [(s + t) / 2 for s, t in zip(q_s, q_t, strict=True)]
    assert temperature**2 * divergence(q_s, q_t) == pytest.approx(backwards, abs=1e-8)
    both = temperature**2 * (divergence(q_s, middle) + divergence(q_t, middle)) / 2
    assert both == pytest.approx(shannon, abs=1e-8)
    assert reverse_kl_loss(row(STUDENT), row(TEACHER), temperature).item() == pytest.approx(backwards, abs=1e-8)
    assert js_loss(row(STUDENT), row(TEACHER), temperature).item() == pytest.approx(shannon, abs=1e-8)


@given(rows=two_rows, temperature=st.sampled_from([1.0, 4.0]))
@settings(deadline=None, max_examples=60)
def test_each_is_its_sum_written_out(rows: tuple[list[float], list[float]], temperature: float) -> None:
    student, teacher = rows
    q_s, q_t = softmax(student, temperature), softmax(teacher, temperature)
    middle = [(s + t) / 2 for s, t in zip(q_s, q_t, strict=True)]
    tensors = row(student), row(teacher), temperature
    near = {"abs": 1e-11, "rel": 1e-9}
    assert reverse_kl_loss(*tensors).item() == pytest.approx(temperature**2 * divergence(q_s, q_t), **near)
    both = temperature**2 * (divergence(q_s, middle) + divergence(q_t, middle)) / 2
    assert js_loss(*tensors).item() == pytest.approx(both, **near)
    squares = [(s - t) ** 2 for s, t in zip(q_s, q_t, strict=True)]
    assert prob_mse_loss(*tensors).item() == pytest.approx(math.fsum(squares) / len(q_s), **near)
    squares = [(s - t) ** 2 for s, t in zip(student, teacher, strict=True)]
    assert logit_mse_loss(*tensors[:2]).item() == pytest.approx(math.fsum(squares) / len(q_s), **near)


@temperatures
def test_reverse_kl_is_kd_with_its_sides_exchanged_and_js_has_no_sides(temperature: float) -> None:
    student, teacher = random_logits(0), random_logits(1)
    assert torch.equal(reverse_kl_loss(student, teacher, temperature), kd_loss(teacher, student, temperature))
    assert (reverse_kl_loss(student, teacher, temperature) - kd_loss(student, teacher, temperature)).abs().min() > 1e-3
    torch.testing.assert_close(
        js_loss(student, teacher, temperature), js_loss(teacher, student, temperature), rtol=0, atol=1e-12
    )


@temperatures
def test_the_gradient_of_reverse_kl_is_t_times_q_times_the_log_ratio_above_its_mean(temperature: float) -> None:
    student, teacher = random_logits(2).requires_grad_(), random_logits(3)
    reverse_kl_loss(student, teacher, temperature).sum().backward()
    q, p = F.softmax(student.detach() / temperature, 1), F.softmax(teacher / temperature, 1)
    ratio = (q / p).log()
    by_hand = temperature * q * (ratio - (q * ratio).sum(1, keepdim=True))
    torch.testing.assert_close(student.grad, by_hand, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("loss", SOFTENED)
def test_the_derivative_agrees_with_finite_differences(loss) -> None:
    student, teacher = random_logits(4, 3, 4).requires_grad_(), random_logits(5, 3, 4)
    assert torch.autograd.gradcheck(lambda z: loss(z, teacher, 2.5), student)


def test_logit_mse_has_the_derivative_of_finite_differences() -> None:
    student, teacher = random_logits(4, 3, 4).requires_grad_(), random_logits(5, 3, 4)
    assert torch.autograd.gradcheck(lambda z: logit_mse_loss(z, teacher), student)


def test_js_is_bounded_by_log_two_and_the_bound_is_reached_by_two_certain_answers_that_differ() -> None:
    apart = js_loss(row([1e4, -1e4]), row([-1e4, 1e4]), 4.0).item()
    assert apart == pytest.approx(16 * math.log(2), abs=1e-12)
    assert (js_loss(30 * random_logits(6), 30 * random_logits(7), 1.0) <= math.log(2) + 1e-12).all()


def test_for_a_large_temperature_js_is_a_quarter_of_kl_in_either_direction() -> None:
    """To second order KL is half of a squared distance and does not know its direction; JS halves that distance."""
    student, teacher = random_logits(8), random_logits(9)
    forth = kd_loss(student, teacher, 1e4)
    torch.testing.assert_close(reverse_kl_loss(student, teacher, 1e4), forth, rtol=1e-3, atol=0)
    torch.testing.assert_close(4 * js_loss(student, teacher, 1e4), forth, rtol=1e-3, atol=0)


def test_for_a_large_temperature_twice_kd_is_the_mean_square_of_centred_logits() -> None:
    student, teacher = (z - z.mean(1, keepdim=True) for z in (random_logits(10), random_logits(11)))
    torch.testing.assert_close(2 * kd_loss(student, teacher, 1e4), logit_mse_loss(student, teacher), rtol=1e-3, atol=0)


def test_logit_mse_sees_a_constant_added_to_every_logit_and_the_softened_terms_do_not() -> None:
    student, teacher = random_logits(12), random_logits(13)
    gap = (student - teacher).mean(1)
    moved = logit_mse_loss(student + 2, teacher) - logit_mse_loss(student, teacher)
    torch.testing.assert_close(moved, 4 * gap + 4)
    for loss in SOFTENED:
        torch.testing.assert_close(loss(student + 2, teacher - 3, 4.0), loss(student, teacher, 4.0))


def test_prob_mse_ends_at_two_over_the_classes() -> None:
    assert prob_mse_loss(row([1e4, 0, 0, 0]), row([0, 1e4, 0, 0]), 4.0).item() == pytest.approx(2 / 4, abs=1e-15)


def test_a_class_that_the_student_excludes_adds_nothing_to_reverse_kl() -> None:
    student, teacher = row([0.5, -0.5, -4e3]), row([1.0, 2.0, 3.0])
    q_s, q_t = softmax([0.5, -0.5], 1.0), softmax([1.0, 2.0, 3.0], 1.0)
    expected = math.fsum(s * math.log(s / t) for s, t in zip(q_s, q_t, strict=False))
    assert reverse_kl_loss(student, teacher, 1.0).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("loss", SOFTENED)
@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_opposite_certainties_in_float32_have_a_finite_gradient(loss, scale: float) -> None:
    student = (scale * torch.eye(4)).requires_grad_()
    value = loss(student, -scale * torch.eye(4), 1.0)
    value.sum().backward()
    assert value.isfinite().all()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_the_terms_are_their_formulas_on_the_logits_of_two_outputs() -> None:
    z_s, z_t = random_logits(14), random_logits(15)
    batch = Batch(torch.arange(5), torch.zeros(5), torch.zeros(5, 1, 1, 1), torch.zeros(0, dtype=torch.int64))
    outputs = Output(z_s, z_s), Output(z_t, z_t), batch
    assert torch.equal(reverse_kl(*outputs, temperature=3.0), reverse_kl_loss(z_s, z_t, 3.0))
    assert torch.equal(js(*outputs, temperature=3.0), js_loss(z_s, z_t, 3.0))
    assert torch.equal(prob_mse(*outputs, temperature=3.0), prob_mse_loss(z_s, z_t, 3.0))
    assert torch.equal(logit_mse(*outputs), logit_mse_loss(z_s, z_t))
