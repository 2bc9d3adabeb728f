"""Which images of the batch answer alike, by their maps."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdal_cli.losses._maps import pairs
from kdal_cli.metrics.directions import unit
from kdal_cli.types import Batch, Output, Places


def similarities(maps: Tensor) -> Tensor:
    """X Xᵀ with rows of length 1, where X is an image a row, (B, c, h, w) -> (B, B)."""
    rows = maps.flatten(1)  # (B, c·h·w)
    return unit(rows @ rows.T)


def sp_loss(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """‖G_t − G_s‖²_F / B² of the two similarity matrices, (B, c_s, h, w) and (B, c_t, h', w') -> ().

    Tung and Mori 2019, arXiv:1907.09682. Nothing is pooled: both matrices are B × B, whatever the maps are.
    Unchanged when either side is rotated, or scaled by one number for all images. An image whose map is all zero is
    like no other and passes no gradient, where the authors' code divides one by 1e-12.
    """
    return (similarities(teacher_maps) - similarities(student_maps)).square().mean()


def sp(
    student: Output,
    teacher: Output,
    batch: Batch,
    *,
    layers: Places = "last",
    teacher_layers: Sequence[str] | None = None,
) -> Tensor:
    """Similarity preservation, summed over the layers -> (). Relational: one number for the batch. See `sp_loss`."""
    return torch.stack([sp_loss(s, t) for s, t in pairs(student, teacher, layers, teacher_layers)]).sum(0)
