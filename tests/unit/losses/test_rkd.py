"""Relational distillation against loops that follow the paper's definition, and its invariances.

B batch, D features. Distances d(i, j) over their mean; cos of the angle at b between a and c.
"""

import itertools
import math

import pytest
import torch
from torch import Tensor

from kdal_cli.losses.rkd import angles, distances, rkd
from kdal_cli.types import Batch, Output


def features(seed: int, batch: int = 5, width: int = 3) -> Tensor:
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loss(student: Tensor, teacher: Tensor, distance: float = 25.0, angle: float = 50.0) -> Tensor:
    batch = Batch(*[torch.zeros(len(student))] * 3, labels=torch.zeros(0))
    outputs = Output(student, student), Output(teacher, teacher)
    return rkd(*outputs, batch, distance_weight=distance, angle_weight=angle)


def rotation(width: int, seed: int = 9) -> Tensor:
    return torch.linalg.qr(features(seed, width, width)).Q


def naive_distances(points: list[list[float]]) -> list[list[float]]:
    """Two images in one place are 1e-6 apart; the diagonal is 0 and not in the mean."""
    table = [
        [max(math.dist(p, q), 1e-6) if i != j else 0.0 for j, q in enumerate(points)] for i, p in enumerate(points)
    ]
    mean = math.fsum(d for line in table for d in line) / (len(points) * (len(points) - 1))
    return [[d / mean for d in line] for line in table]


def naive_angle(a: list[float], b: list[float], c: list[float]) -> float:
    one, two = [x - y for x, y in zip(a, b, strict=True)], [x - y for x, y in zip(c, b, strict=True)]
    lengths = math.hypot(*one) * math.hypot(*two)
    return math.fsum(x * y for x, y in zip(one, two, strict=True)) / lengths if lengths else 0.0


def smooth_l1(gap: float) -> float:
    return gap * gap / 2 if abs(gap) < 1 else abs(gap) - 0.5


def test_distances_are_pairwise_and_over_their_mean() -> None:
    points = features(0)
    torch.testing.assert_close(distances(points), torch.tensor(naive_distances(points.tolist()), dtype=torch.float64))


def test_angles_are_of_every_triplet_seen_from_the_one_in_the_middle() -> None:
    points = features(1).tolist()
    expected = [[[naive_angle(a, b, c) for c in points] for a in points] for b in points]
    torch.testing.assert_close(angles(torch.tensor(points, dtype=torch.float64)), torch.tensor(expected).double())


@pytest.mark.parametrize(("distance", "angle"), [(25.0, 50.0), (1.0, 0.0), (0.0, 1.0)])
def test_the_loss_is_the_weighted_mean_smooth_l1_over_all_pairs_and_all_triplets(distance: float, angle: float) -> None:
    student, teacher = features(2, 4, 3), 3 * features(3, 4, 6)
    s, t = student.tolist(), teacher.tolist()
    table_s, table_t = naive_distances(s), naive_distances(t)
    everyone = range(4)
    pairs = [smooth_l1(table_s[i][j] - table_t[i][j]) for i, j in itertools.product(everyone, repeat=2)]
    triplets = [
        smooth_l1(naive_angle(s[a], s[b], s[c]) - naive_angle(t[a], t[b], t[c]))
        for a, b, c in itertools.product(everyone, repeat=3)
    ]
    expected = distance * math.fsum(pairs) / len(pairs) + angle * math.fsum(triplets) / len(triplets)
    assert loss(student, teacher, distance, angle).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e4])
def test_turning_moving_and_scaling_the_features_of_either_side_changes_nothing(scale: float) -> None:
    student, teacher = features(4), features(5)
    before = loss(student, teacher)
    moved = scale * student @ rotation(3) + 2.0
    torch.testing.assert_close(loss(moved, teacher), before, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(loss(student, scale * teacher @ rotation(3) + 2.0), before, rtol=1e-9, atol=1e-12)
    assert loss(moved, student).item() == pytest.approx(0, abs=1e-20)


def test_stretching_along_one_axis_does_change_it() -> None:
    student = features(6)
    assert loss(student * torch.tensor([4.0, 1.0, 1.0]), student) > 1e-3


def test_the_derivative_agrees_with_finite_differences() -> None:
    teacher = features(8, 4, 3)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), features(7, 4, 3).requires_grad_())


def test_the_mean_leaves_out_the_diagonal_alone_and_not_two_images_in_one_place() -> None:
    """As in the authors' code: of three pairs, at 0, 3 and 3, the mean is 2."""
    points = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([[0, 0, 1.5], [0, 0, 1.5], [1.5, 1.5, 0]], dtype=torch.float64)
    torch.testing.assert_close(distances(points), expected, rtol=1e-6, atol=1e-6)
    assert distances(points).tolist() == [pytest.approx(line) for line in naive_distances(points.tolist())]


def test_images_all_in_one_place_are_as_far_apart_as_images_that_are_all_as_far_apart() -> None:
    student = torch.ones(4, 3, dtype=torch.float64).requires_grad_()
    torch.testing.assert_close(distances(student), 1 - torch.eye(4, dtype=torch.float64))
    loss(student, features(0, 4)).backward()
    assert torch.equal(student.grad, torch.zeros_like(student))


def test_an_image_that_comes_twice_leaves_value_and_gradient_finite() -> None:
    student = torch.cat([features(10), features(10)]).requires_grad_()
    value = loss(student, torch.cat([features(11), features(11)]))
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


def test_images_that_only_the_student_takes_for_one_do_not_blow_the_gradient_up() -> None:
    """Two images behind dead ReLUs have the same features; the edge between them has no direction."""
    ordinary, teacher = features(12), features(13)
    ordinary.requires_grad_()
    loss(ordinary, teacher).backward()
    same = ordinary.detach().clone()
    same[1] = same[0]
    same.requires_grad_()
    loss(same, teacher).backward()
    assert same.grad.norm() < 100 * ordinary.grad.norm()


def test_one_image_alone_and_images_all_alike_have_no_relations() -> None:
    assert loss(features(14)[:1], features(15)[:1]) == 0
    assert loss(torch.ones(4, 3), torch.ones(4, 3)) == 0
