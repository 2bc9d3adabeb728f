"""Similarity preservation against loops by hand, and torchdistill's, which takes rows of sum 1.

B batch, c channels, h w places of a map. G is the similarity matrix.
"""

import math

import pytest
import torch
from torch import Tensor

from kdal_cli.losses.sp import similarities, sp, sp_loss
from kdal_cli.types import Batch, Output

BATCH = Batch(torch.arange(4), torch.zeros(4), torch.zeros(4, 1, 1, 1), torch.zeros(0, dtype=torch.int64))


def maps(seed: int, channels: int = 3, side: int = 2, batch: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, side, side, generator=generator, dtype=torch.float64)


def shown(**maps: Tensor) -> Output:
    return Output(torch.zeros(4, 3), torch.zeros(4, 2), maps)


def by_hand(maps: Tensor, power: int = 2) -> list[list[float]]:
    """G, each row over its norm of that power."""
    rows = maps.flatten(1).tolist()
    table = [[math.fsum(x * y for x, y in zip(one, two, strict=True)) for two in rows] for one in rows]
    return [[g / math.fsum(abs(x) ** power for x in line) ** (1 / power) for g in line] for line in table]


def apart(one: list[list[float]], two: list[list[float]]) -> float:
    return math.fsum((x - y) ** 2 for a, b in zip(one, two, strict=True) for x, y in zip(a, b, strict=True)) / 16


def test_it_is_the_squared_distance_of_the_row_normalised_gram_matrices_over_b_squared() -> None:
    student, teacher = maps(0), maps(1, channels=5, side=3)
    assert sp_loss(student, teacher).item() == pytest.approx(apart(by_hand(student), by_hand(teacher)), rel=1e-12)


def test_two_images_at_a_right_angle_for_the_student_and_alike_for_the_teacher() -> None:
    """G_s = 1, G_t has 1/√2 everywhere: (2 (1 − 1/√2)² + 2 · ½) / 4."""
    student = torch.tensor([[3.0, 0.0], [0.0, 0.5]], dtype=torch.float64)[:, :, None, None]
    teacher = torch.ones(2, 1, 1, 1, dtype=torch.float64)
    expected = (2 * (1 - math.sqrt(0.5)) ** 2 + 1) / 4
    assert sp_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_torchdistill_divides_each_row_by_its_sum_and_not_by_its_length() -> None:
    """It calls normalize(x, 1), whose second argument is the power and not the axis; the paper's rows have length 1."""
    peer = pytest.importorskip("torchdistill.losses.mid_level").SPKDLoss("s", "t", "batchmean")
    student, teacher = maps(0), maps(1, channels=5)
    value = peer({"s": {"output": student}}, {"t": {"output": teacher}}).item()
    assert value == pytest.approx(apart(by_hand(student, power=1), by_hand(teacher, power=1)), rel=1e-9)
    assert sp_loss(student, teacher).item() > 1.1 * value


def test_turning_or_scaling_either_side_changes_nothing() -> None:
    student, teacher = maps(2), maps(3)
    turn = torch.linalg.qr(maps(4, channels=12, side=1, batch=12).flatten(1)).Q
    turned = (student.flatten(1) @ turn).view_as(student)
    for ours, theirs in ((turned, teacher), (7 * student, teacher), (student, 0.01 * teacher)):
        torch.testing.assert_close(sp_loss(ours, theirs), sp_loss(student, teacher), rtol=1e-10, atol=0)


def test_scaling_one_image_alone_changes_it() -> None:
    student, teacher = maps(2), maps(3)
    brighter = student * torch.tensor([1.0, 3.0, 1.0, 1.0])[:, None, None, None]
    assert (sp_loss(brighter, teacher) - sp_loss(student, teacher)).abs() > 1e-3


def test_layers_add_up_and_a_pair_may_have_two_names() -> None:
    student, teacher = shown(a=maps(5), b=maps(6, 2)), shown(x=maps(7), y=maps(8, 4))
    value = sp(student, teacher, BATCH, layers=["a", "b"], teacher_layers=["x", "y"])
    expected = sp_loss(maps(5), maps(7)) + sp_loss(maps(6, 2), maps(8, 4))
    torch.testing.assert_close(value, expected)


def test_an_image_that_silences_every_neuron_has_no_similarities_and_passes_no_gradient() -> None:
    """`F.normalize`, which the authors' code calls, divides the gradient of such a row by 1e-12."""
    student = torch.cat([maps(9)[:3], torch.zeros(1, 3, 2, 2)]).requires_grad_()
    assert torch.equal(similarities(student)[3], torch.zeros(4, dtype=torch.float64))
    sp_loss(student, maps(10)).backward()
    assert student.grad.abs().max() < 1


def test_the_derivative_is_that_of_finite_differences() -> None:
    assert torch.autograd.gradcheck(lambda s: sp_loss(s, maps(12)), maps(11).requires_grad_())
