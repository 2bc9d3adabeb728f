"""Where neurons answer, whichever neurons: the channels of a map as a sample, compared as distributions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdal_cli.losses._maps import pairs, same_size
from kdal_cli.metrics.directions import unit
from kdal_cli.types import Batch, Output, Places


def kernel(one: Tensor, two: Tensor) -> Tensor:
    """Mean over pairs of channels of (a·b)², (B, c, n) and (B, c', n) -> (B,)."""
    return (one @ two.transpose(1, 2)).square().mean((1, 2))  # from (B, c, c')


def moment(channels: Tensor) -> Tensor:
    """Mean over channels of a aᵀ, (B, c, n) -> (B, n, n)."""
    return channels.transpose(1, 2) @ channels / channels.shape[1]


def nst_loss(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """E k(t, t') + E k(s, s') − 2 E k(s, t), k(a, b) = (a·b)², over channels, (B, c_s, h, w), (B, c_t, h', w') -> (B,).

    Huang and Wang 2017, arXiv:1707.01219, a squared maximum mean discrepancy; the half before it is left out, as in the
    CRD benchmark. A channel is its n = h·w places, scaled to length 1; one that is silent counts as 0. Maps of unequal
    size are averaged down to the smaller one first. Unchanged when the channels of either side are permuted, or scaled
    each by a number of its own.

    Since (a·b)² = ⟨a aᵀ, b bᵀ⟩ this is the squared distance of two moments, n × n; that or the kernels, c × c', is
    computed, whichever is smaller.
    """
    ours, theirs = (unit(maps.flatten(2)) for maps in same_size(student_maps, teacher_maps))  # (B, c, n) each
    if ours.shape[2] <= max(ours.shape[1], theirs.shape[1]):
        return (moment(ours) - moment(theirs)).square().sum((1, 2))
    apart = kernel(ours, ours) + kernel(theirs, theirs) - 2 * kernel(ours, theirs)
    return apart.clamp(min=0)  # below it by rounding only


def nst(
    student: Output,
    teacher: Output,
    batch: Batch,
    *,
    layers: Places = "stages",
    teacher_layers: Sequence[str] | None = None,
) -> Tensor:
    """Neuron selectivity transfer with the polynomial kernel, summed over the layers, (B,). See `nst_loss`."""
    return torch.stack([nst_loss(s, t) for s, t in pairs(student, teacher, layers, teacher_layers)]).sum(0)
