"""DIST against Pearson's correlation by hand, its invariance, and rows that do not vary at all.

z logits, y = softmax(z/T), s student, t teacher, B batch, C classes.
"""

import math
import statistics

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdal_cli.losses.dist import dist, dist_loss, unrelated
from kdal_cli.types import Batch, Output

temperatures = pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])


def random_logits(seed: int, batch: int = 5, classes: int = 7) -> Tensor:
    return 3 * torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(logits: list[float], temperature: float) -> list[float]:
    """By hand, with nothing of torch."""
    highest = max(logits)
    powers = [math.exp((z - highest) / temperature) for z in logits]
    return [power / math.fsum(powers) for power in powers]


def columns(rows: list[list[float]]) -> list[list[float]]:
    return [list(column) for column in zip(*rows, strict=True)]


@temperatures
def test_the_value_is_one_less_pearsons_correlation_of_each_image_and_of_each_class(temperature: float) -> None:
    student, teacher = random_logits(0), random_logits(1)
    y_s, y_t = ([softmax(row, temperature) for row in z.tolist()] for z in (student, teacher))
    inter = [1 - statistics.correlation(s, t) for s, t in zip(y_s, y_t, strict=True)]
    intra = [1 - statistics.correlation(s, t) for s, t in zip(columns(y_s), columns(y_t), strict=True)]
    expected = [temperature**2 * (0.7 * one + 2 * math.fsum(intra) / 7) for one in inter]
    assert dist_loss(student, teacher, 0.7, 2.0, temperature).tolist() == pytest.approx(expected, rel=1e-9)


@temperatures
def test_torchdistill_has_the_same_mean(temperature: float) -> None:
    peer = pytest.importorskip("torchdistill.losses.mid_level")
    theirs = peer.DISTLoss("s", "output", "t", "output", beta=0.7, gamma=2.0, tau=temperature)
    student, teacher = random_logits(2), random_logits(3)
    value = theirs({"s": {"output": student}}, {"t": {"output": teacher}})
    ours = dist_loss(student, teacher, 0.7, 2.0, temperature).mean()
    torch.testing.assert_close(ours, value, rtol=1e-9, atol=1e-9)


@temperatures
def test_it_is_exactly_zero_when_the_student_equals_the_teacher(temperature: float) -> None:
    teacher = random_logits(4).float()
    for logits in (teacher, 1e4 * F.one_hot(torch.tensor([0, 1, 0]), 7), torch.zeros(3, 7)):
        assert torch.equal(dist_loss(logits, logits.clone(), 1.0, 1.0, temperature), torch.zeros(len(logits)))


@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-4])
def test_a_positive_affine_map_of_each_row_of_probabilities_changes_nothing(spread: float) -> None:
    """y → a·y + (1 − a)/C with an a for each image: what is between classes stays. With one a for all images, so does
    what is between images."""
    student, teacher = random_logits(5), random_logits(6)
    a = spread * torch.tensor([1.0, 0.9, 0.5, 0.2, 0.1], dtype=torch.float64)[:, None]
    y = F.softmax(student, 1)
    moved = (a * y + (1 - a) / 7).log()
    inter, intra = (1.0, 0.0, 1.0), (0.0, 1.0, 1.0)
    expected = dist_loss(student, teacher, *inter)
    torch.testing.assert_close(dist_loss(moved, teacher, *inter), expected, rtol=1e-8, atol=1e-8)
    together = (spread * y + (1 - spread) / 7).log()
    expected = dist_loss(student, teacher, *intra)
    torch.testing.assert_close(dist_loss(together, teacher, *intra), expected, rtol=1e-8, atol=1e-8)


def test_the_authors_epsilon_breaks_that_invariance_and_so_it_is_left_out() -> None:
    """Their r is a·b / (|a||b| + 1e-8): where both rows vary by 1e-4 a perfect correlation counts as one half."""
    y = torch.tensor([0.25 + 1e-4 / math.sqrt(2), 0.25 - 1e-4 / math.sqrt(2), 0.25, 0.25], dtype=torch.float64)
    apart = y - y.mean()
    theirs = 1 - (apart * apart).sum() / (apart.norm() * apart.norm() + 1e-8)
    assert theirs.item() == pytest.approx(0.5, rel=1e-6)
    logits = torch.stack([y.log(), 2 * y])
    assert torch.equal(dist_loss(logits, logits.clone(), 1.0, 0.0, 1.0), torch.zeros(2, dtype=torch.float64))


def test_probabilities_too_small_for_float32_still_have_their_correlation() -> None:
    """Class 2 has e^−500 (1, 2, 4), which underflows: its correlation with e^−600 (1, 3, 2) is that of the brackets."""
    zero = torch.zeros(3)
    student = torch.stack([zero, zero + 1, torch.tensor([1.0, 2.0, 4.0]).log() - 500], 1)
    teacher = torch.stack([zero, zero + 1, torch.tensor([1.0, 3.0, 2.0]).log() - 600], 1)
    assert (F.softmax(student, 1)[:, 2] == 0).all()
    expected = (1 - statistics.correlation([1, 2, 4], [1, 3, 2])) / 3  # the two other classes do not vary
    assert dist_loss(student, teacher, 0.0, 1.0, 1.0).tolist() == pytest.approx([expected] * 3, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", [0.1, 1 / 3, -7777.7])
def test_a_row_that_does_not_vary_agrees_with_another_and_with_nothing_else(dtype: torch.dtype, level: float) -> None:
    flat = torch.full((1, 7), level, dtype=dtype)
    varied = random_logits(7, batch=1).to(dtype)
    for one, two, expected in ((flat, flat + 1, 0.0), (flat, varied, 1.0), (varied, flat, 1.0)):
        student = one.clone().requires_grad_()
        value = dist_loss(student, two, 1.0, 0.0, 1.0)
        value.sum().backward()
        assert value.tolist() == [expected]
        assert torch.equal(student.grad, torch.zeros_like(student))


@pytest.mark.parametrize("images", [1, 2, 8])
def test_the_same_image_several_times_has_a_bounded_gradient(images: int) -> None:
    """Rounding may tell equal images apart by a last digit, which is no relation between them."""
    noise = 1e-7 * torch.randn(images, 7, generator=torch.Generator().manual_seed(8))
    student = (random_logits(9, batch=1).float() + noise).requires_grad_()
    teacher = random_logits(10, batch=1).float() - noise
    value = dist_loss(student, teacher, 1.0, 1.0, 1.0)
    value.sum().backward()
    alone = dist_loss(student[:1], teacher[:1], 1.0, 0.0, 1.0)
    torch.testing.assert_close(value, alone.expand(images), rtol=1e-5, atol=1e-5)
    assert student.grad.norm() < 10


def test_opposite_orders_are_as_far_apart_as_can_be() -> None:
    student = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.5, 0.2]], dtype=torch.float64)
    value = dist_loss(student, student.flip(1), 1.0, 1.0, 3.0)
    torch.testing.assert_close(value, torch.full_like(value, 9 * (2 + 2)))


def test_the_derivative_agrees_with_finite_differences() -> None:
    student, teacher = random_logits(11, 4, 3).requires_grad_(), random_logits(12, 4, 3)
    assert torch.autograd.gradcheck(lambda z: dist_loss(z, teacher, 0.7, 2.0, 2.5), student)
    assert torch.autograd.gradcheck(lambda z: unrelated(F.log_softmax(z, 1), teacher), student)


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_certain_answers_in_float32_have_a_finite_gradient(scale: float) -> None:
    student = (scale * torch.eye(4)[:3]).requires_grad_()
    value = dist_loss(student, scale * torch.eye(4)[1:], 1.0, 1.0, 1.0)
    value.sum().backward()
    assert value.isfinite().all()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_the_term_is_its_formula_on_the_logits_of_two_outputs() -> None:
    z_s, z_t = random_logits(13), random_logits(14)
    batch = Batch(torch.arange(5), torch.zeros(5), torch.zeros(5, 1, 1, 1), torch.zeros(0, dtype=torch.int64))
    value = dist(Output(z_s, z_s), Output(z_t, z_t), batch, beta=0.5, gamma=3.0, temperature=2.0)
    assert torch.equal(value, dist_loss(z_s, z_t, 0.5, 3.0, 2.0))
    usual = dist(Output(z_s, z_s), Output(z_t, z_t), batch)
    assert torch.equal(usual, dist_loss(z_s, z_t, 1.0, 1.0, 4.0))
