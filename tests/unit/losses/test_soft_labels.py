"""Soft labels against a table worked out by hand, their gradients against the law, and the limits at both ends of T.

z logits, q = softmax(z/T), s student, t teacher, B batch, C classes.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kdal_cli.losses._softmax import kl, log_softened
from kdal_cli.losses.hard_label import hard_label, hard_label_loss
from kdal_cli.losses.kd import kd, kd_loss
from kdal_cli.losses.soft_ce import soft_ce, soft_ce_loss
from kdal_cli.training.objective import Weighting
from kdal_cli.types import Batch, Output

TEACHER = [5.0, 1.0, 0.5, -2.0]
STUDENT = [2.0, 1.5, 0.0, -1.0]
CE = 0.583138664  # of the student against label 0

# T, KL, T²·KL, soft CE without its T², H(q_t), then with alpha 0.3: convex on soft, convex on hard, additive.
TABLE = [
    (1, 0.460541009, 0.460541009, 0.616245768, 0.155704759, 0.546359367, 0.497320305, 0.721300966),
    (2, 0.285527258, 1.142109032, 1.008001928, 0.722474670, 0.750829774, 0.974417922, 0.925771373),
    (4, 0.087389519, 1.398232302, 1.267110370, 1.179720851, 0.827666755, 1.153704210, 1.002608354),
]
WEIGHTINGS = [Weighting("convex", 0.3, "soft"), Weighting("convex", 0.3, "hard"), Weighting("additive", 0.3, "soft")]

temperatures = pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
logit_rows = st.lists(st.floats(-30, 30), min_size=2, max_size=6)


def row(logits: list[float]) -> Tensor:
    return torch.tensor([logits], dtype=torch.float64)


def random_logits(seed: int, batch: int = 5, classes: int = 7) -> Tensor:
    return 3 * torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(logits: list[float], temperature: float) -> list[float]:
    """By hand, with nothing of torch."""
    highest = max(logits)
    powers = [math.exp((z - highest) / temperature) for z in logits]
    return [power / math.fsum(powers) for power in powers]


def as_output(logits: Tensor) -> Output:
    return Output(logits, logits)


def batch_of(n: int) -> Batch:
    return Batch(torch.arange(n), torch.zeros(n), torch.zeros(n, 1, 1, 1), torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize("line", TABLE, ids=lambda line: f"T={line[0]}")
def test_every_value_of_the_hand_worked_table(line: tuple[float, ...]) -> None:
    temperature, divergence, scaled, soft, teacher_entropy, *weighted = line
    student, teacher, truth = row(STUDENT), row(TEACHER), torch.tensor([0])
    log_t = log_softened(teacher, temperature)
    hard = F.cross_entropy(student, truth).item()
    total = kd_loss(student, teacher, temperature).item()
    assert hard == pytest.approx(CE, abs=1e-8)
    assert kl(log_t, log_softened(student, temperature)).item() == pytest.approx(divergence, abs=1e-8)
    assert total == pytest.approx(scaled, abs=1e-8)
    assert soft_ce_loss(student, teacher, temperature).item() == pytest.approx(temperature**2 * soft, abs=2e-8)
    assert -(log_t.exp() * log_t).sum().item() == pytest.approx(teacher_entropy, abs=1e-8)
    for weighting, expected in zip(WEIGHTINGS, weighted, strict=True):
        w_hard, w_soft = weighting.resolve()
        assert w_hard * hard + w_soft * total == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("line", TABLE, ids=lambda line: f"T={line[0]}")
def test_the_table_itself_follows_from_the_definition(line: tuple[float, ...]) -> None:
    temperature, divergence, _, soft, teacher_entropy, *_ = line
    q_t, q_s = softmax(TEACHER, temperature), softmax(STUDENT, temperature)
    pairs = list(zip(q_t, q_s, strict=True))
    assert math.fsum(t * math.log(t / s) for t, s in pairs) == pytest.approx(divergence, abs=1e-8)
    assert -math.fsum(t * math.log(s) for t, s in pairs) == pytest.approx(soft, abs=1e-8)
    assert -math.fsum(t * math.log(t) for t in q_t) == pytest.approx(teacher_entropy, abs=1e-8)


@given(rows=st.integers(2, 6).flatmap(lambda c: st.tuples(*[st.lists(st.floats(-30, 30), min_size=c, max_size=c)] * 2)))
@settings(deadline=None, max_examples=60)
def test_kd_is_t_squared_times_the_naive_sum(rows: tuple[list[float], list[float]]) -> None:
    student, teacher = rows
    q_t, q_s = softmax(teacher, 4.0), softmax(student, 4.0)
    expected = 16 * math.fsum(t * (math.log(t) - math.log(s)) for t, s in zip(q_t, q_s, strict=True))
    assert kd_loss(row(student), row(teacher), 4.0).item() == pytest.approx(expected, abs=1e-11, rel=1e-9)


@temperatures
def test_the_gradient_of_kd_is_t_over_b_times_the_difference_of_the_softened_answers(temperature: float) -> None:
    student, teacher = random_logits(0).requires_grad_(), random_logits(1)
    kd_loss(student, teacher, temperature).mean().backward()
    apart = F.softmax(student.detach() / temperature, 1) - F.softmax(teacher / temperature, 1)
    torch.testing.assert_close(student.grad, temperature / len(student) * apart, rtol=0, atol=1e-14)


@temperatures
def test_soft_cross_entropy_has_the_gradient_of_kd(temperature: float) -> None:
    student, teacher = random_logits(2).requires_grad_(), random_logits(3)
    (of_kd,) = torch.autograd.grad(kd_loss(student, teacher, temperature).mean(), student)
    (of_soft_ce,) = torch.autograd.grad(soft_ce_loss(student, teacher, temperature).mean(), student)
    torch.testing.assert_close(of_soft_ce, of_kd, rtol=0, atol=1e-14)


@temperatures
def test_soft_cross_entropy_exceeds_kd_by_t_squared_times_the_teachers_entropy(temperature: float) -> None:
    student, teacher = random_logits(4), random_logits(5)
    entropy = torch.distributions.Categorical(logits=teacher / temperature).entropy()
    gap = soft_ce_loss(student, teacher, temperature) - kd_loss(student, teacher, temperature)
    torch.testing.assert_close(gap, temperature**2 * entropy)


@pytest.mark.parametrize("loss", [kd_loss, soft_ce_loss])
def test_the_derivative_agrees_with_finite_differences(loss) -> None:
    student = random_logits(6, batch=3, classes=4).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, random_logits(7, batch=3, classes=4), 2.5), student)


def test_hard_label_has_the_derivative_of_finite_differences() -> None:
    student = random_logits(8, batch=3, classes=4).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: hard_label_loss(z, random_logits(9, batch=3, classes=4)), student)


def test_kd_is_its_target_part_and_its_share_of_the_part_among_the_other_classes() -> None:
    """Zhao et al. 2022, arXiv:2203.08679, eq. 6: KD = TCKD + (1 − p_t,y) · NCKD, for any label y."""
    student, teacher, label = random_logits(16), random_logits(17), 3
    q_s, q_t = F.softmax(student / 4, 1), F.softmax(teacher / 4, 1)
    others = [c for c in range(7) if c != label]
    binary_s, binary_t = (torch.stack([q[:, label], 1 - q[:, label]], 1) for q in (q_s, q_t))
    among_s, among_t = (q[:, others] / (1 - q[:, [label]]) for q in (q_s, q_t))
    target = (binary_t * (binary_t / binary_s).log()).sum(1)
    rest = (among_t * (among_t / among_s).log()).sum(1)
    torch.testing.assert_close(kd_loss(student, teacher, 4.0), 16 * (target + (1 - q_t[:, label]) * rest))


def test_for_a_large_temperature_kd_becomes_half_the_mean_square_of_centred_logit_differences() -> None:
    """Hinton et al. 2015, section 2.1: expand the softmax to first order in 1/T."""
    student, teacher = random_logits(10), random_logits(11)
    apart = student - teacher
    limit = (apart - apart.mean(1, keepdim=True)).square().mean(1) / 2
    torch.testing.assert_close(kd_loss(student, teacher, 1e4), limit, rtol=1e-3, atol=0)


def test_a_class_that_the_teacher_excludes_adds_nothing() -> None:
    student, teacher = row([1.0, 2.0, 3.0]), row([0.5, -0.5, -4e3])
    q_t, q_s = softmax([0.5, -0.5], 1.0), softmax([1.0, 2.0, 3.0], 1.0)
    expected = math.fsum(t * math.log(t / s) for t, s in zip(q_t, q_s, strict=False))
    assert kd_loss(student, teacher, 1.0).item() == pytest.approx(expected, abs=1e-12)


@given(logits=logit_rows, shift=st.floats(-50, 50))
@settings(deadline=None, max_examples=40)
def test_adding_a_constant_to_every_logit_changes_no_soft_label(logits: list[float], shift: float) -> None:
    student, teacher = row(logits), row(logits[::-1])
    moved = kd_loss(student + shift, teacher - shift, 2.0)
    torch.testing.assert_close(moved, kd_loss(student, teacher, 2.0), rtol=0, atol=1e-9)


def test_hard_label_is_minus_the_log_probability_of_the_teachers_first_choice() -> None:
    student = row(STUDENT).repeat(2, 1)
    teacher = torch.tensor([[5.0, 1.0, 0.5, -2.0], [-1.0, 0.0, 9.0, 8.9]])
    probs = softmax(STUDENT, 1.0)
    expected = torch.tensor([-math.log(probs[0]), -math.log(probs[2])], dtype=torch.float64)
    torch.testing.assert_close(hard_label_loss(student, teacher), expected)


def test_hard_label_sees_nothing_of_the_teacher_but_its_choice() -> None:
    student, teacher = random_logits(12), random_logits(13)
    assert torch.equal(hard_label_loss(student, teacher), hard_label_loss(student, 3 * teacher + 1))


def test_the_terms_are_their_formulas_on_the_logits_of_two_outputs() -> None:
    student, teacher, batch = random_logits(14), random_logits(15), batch_of(5)
    outputs = as_output(student), as_output(teacher), batch
    assert torch.equal(kd(*outputs, temperature=3.0), kd_loss(student, teacher, 3.0))
    assert torch.equal(soft_ce(*outputs, temperature=3.0), soft_ce_loss(student, teacher, 3.0))
    assert torch.equal(hard_label(*outputs), hard_label_loss(student, teacher))
    assert {tuple(term(*outputs).shape) for term in (kd, soft_ce, hard_label)} == {(5,)}
