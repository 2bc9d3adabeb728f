"""Multi-level logits against loops: instances, images of the batch, classes; and what is the same at any order.

z logits, Q = softmax(z/T), s student, t teacher, B batch, C classes.
"""

import math

import pytest
import torch
from torch import Tensor

from kdal_cli.errors import UserError
from kdal_cli.losses.kd import kd_loss
from kdal_cli.losses.mlkd import mlkd, mlkd_loss
from kdal_cli.types import Batch, Output

B, C = 3, 4
BATCH = Batch(torch.arange(B), torch.zeros(B), torch.zeros(B, 1, 1, 1), torch.zeros(0, dtype=torch.int64))


def random_logits(seed: int, batch: int = B, classes: int = C) -> Tensor:
    return 3 * torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(logits: list[float], temperature: float) -> list[float]:
    """By hand, with nothing of torch."""
    highest = max(logits)
    powers = [math.exp((z - highest) / temperature) for z in logits]
    return [power / math.fsum(powers) for power in powers]


def products(rows: list[list[float]]) -> list[list[float]]:
    """Of each row with each row."""
    return [[math.fsum(a * b for a, b in zip(one, two, strict=True)) for two in rows] for one in rows]


def columns(rows: list[list[float]]) -> list[list[float]]:
    return [list(column) for column in zip(*rows, strict=True)]


def squares(one: list[list[float]], two: list[list[float]]) -> float:
    return math.fsum((a - b) ** 2 for x, y in zip(one, two, strict=True) for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_its_mean_is_the_sum_of_three_alignments_written_out(temperature: float) -> None:
    student, teacher = random_logits(0), random_logits(1)
    q_s, q_t = ([softmax(row, temperature) for row in z.tolist()] for z in (student, teacher))
    instances = math.fsum(t * math.log(t / s) for x, y in zip(q_t, q_s, strict=True) for t, s in zip(x, y, strict=True))
    images = squares(products(q_t), products(q_s))
    classes = squares(products(columns(q_t)), products(columns(q_s)))
    expected = temperature**2 * instances / B + images / B + classes / C
    assert mlkd_loss(student, teacher, temperature).mean().item() == pytest.approx(expected, rel=1e-11)


def test_each_image_has_its_own_divergence_and_its_own_row_of_similarities() -> None:
    student, teacher = random_logits(2), random_logits(3)
    q_s, q_t = ([softmax(row, 2.0) for row in z.tolist()] for z in (student, teacher))
    rows = [squares([t], [s]) for t, s in zip(products(q_t), products(q_s), strict=True)]
    rest = mlkd_loss(student, teacher, 2.0) - kd_loss(student, teacher, 2.0)
    for image in range(1, B):
        assert (rest[image] - rest[0]).item() == pytest.approx(rows[image] - rows[0], abs=1e-12)


def test_the_answers_of_two_images_exchanged_are_seen_by_the_first_level_and_not_by_the_classes() -> None:
    """Exchanging answers keeps every sum over the batch: what is left are T² KL and the rows of similarities."""
    teacher = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]], dtype=torch.float64))
    student = teacher[[1, 0, 2]]
    q = teacher.exp().tolist()
    rows = [squares([t], [s]) for t, s in zip(products(q), products([q[1], q[0], q[2]]), strict=True)]
    rest = mlkd_loss(student, teacher, 1.0) - kd_loss(student, teacher, 1.0)
    assert rest.tolist() == pytest.approx(rows, abs=1e-15)


def test_the_temperatures_add_up() -> None:
    z_s, z_t = random_logits(4), random_logits(5)
    value = mlkd(Output(z_s, z_s), Output(z_t, z_t), BATCH, temperatures=(2.0, 5.0))
    torch.testing.assert_close(value, mlkd_loss(z_s, z_t, 2.0) + mlkd_loss(z_s, z_t, 5.0))
    torch.testing.assert_close(
        mlkd(Output(z_s, z_s), Output(z_t, z_t), BATCH),
        torch.stack([mlkd_loss(z_s, z_t, float(t)) for t in range(2, 7)]).sum(0),
    )


def test_no_temperature_at_all_is_refused_in_a_sentence() -> None:
    output = Output(random_logits(6), random_logits(6))
    with pytest.raises(UserError, match=r"mlkd\.temperatures=\[\]"):
        mlkd(output, output, BATCH, temperatures=[])


def test_the_derivative_agrees_with_finite_differences() -> None:
    student, teacher = random_logits(7).requires_grad_(), random_logits(8)
    assert torch.autograd.gradcheck(lambda z: mlkd_loss(z, teacher, 2.5), student)


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_certain_answers_in_float32_have_a_finite_gradient(scale: float) -> None:
    student = (scale * torch.eye(4)[:3]).requires_grad_()
    value = mlkd_loss(student, scale * torch.eye(4)[1:], 2.0)
    value.sum().backward()
    assert value.isfinite().all()
    assert student.grad is not None
    assert student.grad.isfinite().all()
