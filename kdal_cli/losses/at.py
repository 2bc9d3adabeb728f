"""Where the teacher looks: maps of how strongly each place answers."""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from kdal_cli.losses._maps import pairs, same_size
from kdal_cli.types import Batch, Output, Places
from kdal_cli.values import Within

Power = Annotated[float, Within(1)]
"""Below 1 the attention of a place that does not answer would have an endless slope."""


def attention(maps: Tensor, p: float) -> Tensor:
    """mean_c |F|^p, flattened and normalised to length 1, (B, c, h, w) -> (B, h·w)."""
    strength = maps.square() if p == 2 else maps.abs().pow(p)
    return F.normalize(strength.mean(1).flatten(1), dim=1)


def at_loss(student_maps: Tensor, teacher_maps: Tensor, p: float) -> Tensor:
    """Mean over places of (a_s − a_t)², (B, c_s, h, w) and (B, c_t, h', w') -> (B,).

    Zagoruyko and Komodakis 2017, arXiv:1612.03928, eq. 2 with the mean square of the authors' code. Maps of unequal
    size are averaged down to the smaller one first. Unchanged when either side is scaled.
    """
    ours, theirs = same_size(student_maps, teacher_maps)
    return (attention(ours, p) - attention(theirs, p)).square().mean(1)


def at(
    student: Output,
    teacher: Output,
    batch: Batch,
    *,
    layers: Places = "stages",
    teacher_layers: Sequence[str] | None = None,
    p: Power = 2.0,
) -> Tensor:
    """Attention transfer, summed over the layers, (B,). See `at_loss`."""
    return torch.stack([at_loss(s, t, p) for s, t in pairs(student, teacher, layers, teacher_layers)]).sum(0)
