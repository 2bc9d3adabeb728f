"""Probabilistic knowledge transfer against loops by hand and torchdistill's copy of the authors' code.

B batch, D features. p_ij is how probable j is as the neighbour of i.
"""

import math

import pytest
import torch
from torch import Tensor

from kdal_cli.losses.pkt import neighbours, pkt, pkt_loss
from kdal_cli.metrics.directions import unit
from kdal_cli.types import Batch, Output

BATCH = Batch(torch.arange(5), torch.zeros(5), torch.zeros(5, 1, 1, 1), torch.zeros(0, dtype=torch.int64))


def features(seed: int, width: int = 3, batch: int = 5) -> Tensor:
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(points: Tensor) -> list[list[float]]:
    table = []
    for one in points.tolist():
        line = []
        for two in points.tolist():
            product = math.fsum(x * y for x, y in zip(one, two, strict=True))
            line.append((1 + product / math.hypot(*one) / math.hypot(*two)) / 2)
        table.append([near / math.fsum(line) for near in line])
    return table


def test_the_neighbours_of_an_image_are_a_distribution_over_the_batch_itself_included() -> None:
    points = features(0)
    torch.testing.assert_close(neighbours(points), torch.tensor(by_hand(points), dtype=torch.float64))


def test_three_directions_of_the_plane() -> None:
    """To the right, up and to the left: of the first, the three are 1, ½ and 0 near, over 3/2."""
    plane = torch.tensor([[2.0, 0.0], [0.0, 0.1], [-7.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([[2, 1, 0], [1, 2, 1], [0, 1, 2]], dtype=torch.float64)
    torch.testing.assert_close(neighbours(plane), expected / expected.sum(1, keepdim=True))


def test_the_loss_is_the_mean_over_all_pairs_of_the_terms_of_the_divergence() -> None:
    student, teacher = features(1), features(2, width=4)
    pairs = [(s, t) for a, b in zip(by_hand(student), by_hand(teacher), strict=True) for s, t in zip(a, b, strict=True)]
    expected = math.fsum(t * math.log((t + 1e-7) / (s + 1e-7)) for s, t in pairs) / 25
    assert pkt_loss(student, teacher).item() == pytest.approx(expected, rel=1e-9)


def test_torchdistill_agrees_where_its_epsilon_does_not_count_against_the_length_of_the_features() -> None:
    peer = pytest.importorskip("torchdistill.losses.mid_level").PKTLoss("s", "output", "t", "output")
    student, teacher = 1e6 * features(3), 1e6 * features(4, width=6)
    value = peer({"s": {"output": student}}, {"t": {"output": teacher}})
    torch.testing.assert_close(pkt_loss(student, teacher), value, rtol=1e-9, atol=1e-12)


def test_without_the_epsilon_it_is_the_divergence_of_an_image_over_the_size_of_the_batch() -> None:
    student, teacher = features(5), features(6)
    p, q = neighbours(teacher), neighbours(student)
    exact = torch.distributions.kl_divergence(torch.distributions.Categorical(p), torch.distributions.Categorical(q))
    torch.testing.assert_close(pkt_loss(student, teacher), exact.mean() / 5, rtol=1e-4, atol=0)


def test_the_epsilon_that_the_authors_add_to_lengths_as_well_would_make_dark_images_count_for_less() -> None:
    """Of features of 1e-6 it takes a tenth away, and the cosines with them fall."""
    dark = torch.cat([1e-6 * features(5)[:1], features(5)[1:]])
    lengthened = dark / (dark.norm(dim=1, keepdim=True) + 1e-7)
    assert (lengthened @ lengthened.T)[0, 0] < 0.95
    torch.testing.assert_close(neighbours(dark), neighbours(features(5)), rtol=1e-12, atol=1e-12)


def test_turning_either_side_or_scaling_any_image_changes_nothing() -> None:
    student, teacher = features(7), features(8)
    turned = student @ torch.linalg.qr(features(9, 3, 3)).Q
    brighter = teacher * torch.tensor([1.0, 5.0, 0.1, 2.0, 300.0])[:, None]
    torch.testing.assert_close(pkt_loss(turned, brighter), pkt_loss(student, teacher), rtol=1e-10, atol=0)


def test_the_epsilon_takes_it_below_zero_by_less_than_its_own_size() -> None:
    student = features(10, width=2)
    values = [pkt_loss(student, student + size * features(11, width=2)) for size in (0, 1e-9, 1e-8, 1e-6, 1e-4)]
    assert values[0] == 0
    assert min(values) > -1e-7


def test_opposite_features_leave_no_logarithm_of_a_negative_number() -> None:
    """In float32 the cosine of opposite vectors may round to −1 − 2.4e-7, which is more than the epsilon covers."""
    cosines = []
    for seed in range(400):
        one = torch.rand(1, 256, generator=torch.Generator().manual_seed(seed))
        pair = torch.cat([one, -1.7 * one]).requires_grad_()
        cosines.append((unit(pair) @ unit(pair).T)[0, 1].item())
        value = pkt_loss(pair, torch.ones(2, 3))
        value.backward()
        assert value.isfinite()
        assert pair.grad.isfinite().all()
    assert min(cosines) < -1


def test_features_that_are_all_zero_are_at_a_right_angle_to_everything_and_pass_no_gradient() -> None:
    student = torch.cat([features(13)[:4], torch.zeros(1, 3)]).requires_grad_()
    torch.testing.assert_close(neighbours(student)[4], torch.full((5,), 0.2, dtype=torch.float64))
    pkt_loss(student, features(14)).backward()
    assert student.grad.isfinite().all()
    assert torch.equal(student.grad[4], torch.zeros(3, dtype=torch.float64))


def test_the_term_looks_at_the_features() -> None:
    student, teacher = features(15), features(16, width=2)
    value = pkt(Output(torch.zeros(5, 2), student), Output(torch.zeros(5, 2), teacher), BATCH)
    assert torch.equal(value, pkt_loss(student, teacher))


def test_the_derivative_is_that_of_finite_differences() -> None:
    assert torch.autograd.gradcheck(lambda s: pkt_loss(s, features(18)), features(17).requires_grad_())
