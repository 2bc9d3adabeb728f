"""Neuron selectivity transfer against the sums of its definition, in both of the ways that it is computed.

B batch, c channels, n places of a map.
"""

import math

import pytest
import torch
from torch import Tensor

from kdal_cli.losses.nst import kernel, moment, nst, nst_loss
from kdal_cli.types import Batch, Output

BATCH = Batch(torch.arange(2), torch.zeros(2), torch.zeros(2, 1, 1, 1), torch.zeros(0, dtype=torch.int64))

WIDE_AND_NARROW = pytest.mark.parametrize(("ours", "theirs"), [(3, 5), (2, 3), (3, 3), (7, 2)])
"""Channels; maps of 4 places are compared by their moments where either has 4 or more."""


def maps(seed: int, channels: int, side: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, channels, side, side, generator=generator, dtype=torch.float64)


def by_hand(student: Tensor, teacher: Tensor) -> list[float]:
    """Means over all pairs of channels of (a·b)², for each image."""
    values = []
    for image in range(len(student)):
        ours, theirs = (
            [[x / math.hypot(*row) for x in row] for row in maps[image].flatten(1).tolist()]
            for maps in (student, teacher)
        )

        def mean(one: list[list[float]], two: list[list[float]]) -> float:
            dots = [math.fsum(x * y for x, y in zip(a, b, strict=True)) for a in one for b in two]
            return math.fsum(dot * dot for dot in dots) / len(dots)

        values.append(mean(theirs, theirs) + mean(ours, ours) - 2 * mean(ours, theirs))
    return values


@WIDE_AND_NARROW
def test_it_is_the_squared_mean_discrepancy_of_the_kernel(ours: int, theirs: int) -> None:
    student, teacher = maps(0, ours), maps(1, theirs)
    expected = torch.tensor(by_hand(student, teacher), dtype=torch.float64)
    torch.testing.assert_close(nst_loss(student, teacher), expected, rtol=1e-10, atol=1e-14)


def test_the_kernels_and_the_moments_are_the_same_distance() -> None:
    one, two = maps(2, 3).flatten(2), maps(3, 6).flatten(2)
    by_kernels = kernel(one, one) + kernel(two, two) - 2 * kernel(one, two)
    by_moments = (moment(one) - moment(two)).square().sum((1, 2))
    torch.testing.assert_close(by_kernels, by_moments, rtol=1e-10, atol=0)


@pytest.mark.parametrize(("channels", "side"), [(300, 2), (2, 20)], ids=["many channels", "many places"])
def test_no_tensor_is_larger_than_the_smaller_of_the_two_ways(channels: int, side: int) -> None:
    """Pairs of channels would be 300² an image, pairs of places 400²; what there is is the maps and their own size."""
    largest = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    student = maps(4, channels, side).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, keep):
        nst_loss(student, maps(5, channels, side)).sum().backward()
    assert largest == student.numel()


@WIDE_AND_NARROW
def test_the_order_of_the_channels_and_the_size_of_each_do_not_count(ours: int, theirs: int) -> None:
    student, teacher = maps(6, ours), maps(7, theirs)
    scales = torch.linspace(0.1, 9, ours)[:, None, None]
    value = nst_loss((student * scales).flip(1), 5 * teacher.flip(1))
    torch.testing.assert_close(value, nst_loss(student, teacher), rtol=1e-9, atol=1e-13)


@WIDE_AND_NARROW
def test_a_channel_more_that_says_the_same_changes_the_share_of_it_alone(ours: int, theirs: int) -> None:
    """Every channel twice is the same distribution."""
    student, teacher = maps(8, ours), maps(9, theirs)
    doubled = torch.cat([student, student], 1)
    torch.testing.assert_close(nst_loss(doubled, teacher), nst_loss(student, teacher), rtol=1e-9, atol=1e-13)


@WIDE_AND_NARROW
def test_it_is_zero_at_equality_and_never_below(ours: int, theirs: int) -> None:
    teacher = maps(10, theirs).float()
    assert torch.equal(nst_loss(teacher, teacher), torch.zeros(2))
    for size in (1e-8, 1e-6, 1e-4, 1e-2):
        assert (nst_loss(teacher + size * maps(11, theirs).float(), teacher) >= 0).all()


def test_larger_maps_are_averaged_to_the_smaller_ones() -> None:
    student, teacher = maps(12, 3, side=4), maps(13, 2, side=2)
    pooled = student.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
    torch.testing.assert_close(nst_loss(student, teacher), nst_loss(pooled, teacher))
    torch.testing.assert_close(nst_loss(teacher, student), nst_loss(teacher, pooled))


@WIDE_AND_NARROW
def test_a_silent_channel_counts_as_zero_and_passes_no_gradient(ours: int, theirs: int) -> None:
    quiet = torch.tensor([0.0] + [1.0] * (ours - 1))[:, None, None]
    student = (maps(14, ours) * quiet).requires_grad_()
    value = nst_loss(student, maps(15, theirs))
    value.sum().backward()
    heard = nst_loss(student[:, 1:], maps(15, theirs))
    assert value.isfinite().all()
    assert (value - heard).abs().max() > 1e-3
    assert student.grad.isfinite().all()
    assert torch.equal(student.grad[:, 0], torch.zeros(2, 2, 2, dtype=torch.float64))


def test_layers_add_up_for_each_image() -> None:
    names = {"layers": ["a", "b"], "teacher_layers": ["x", "y"]}
    student = Output(torch.zeros(2, 3), torch.zeros(2, 2), {"a": maps(16, 3), "b": maps(17, 2)})
    teacher = Output(torch.zeros(2, 3), torch.zeros(2, 2), {"x": maps(18, 4), "y": maps(19, 2)})
    expected = nst_loss(maps(16, 3), maps(18, 4)) + nst_loss(maps(17, 2), maps(19, 2))
    torch.testing.assert_close(nst(student, teacher, BATCH, **names), expected)


@WIDE_AND_NARROW
def test_the_derivative_is_that_of_finite_differences(ours: int, theirs: int) -> None:
    assert torch.autograd.gradcheck(lambda s: nst_loss(s, maps(21, theirs)), maps(20, ours).requires_grad_())
