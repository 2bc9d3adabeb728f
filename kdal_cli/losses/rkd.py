"""Relations between images rather than answers: distances and angles among the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdal_cli.types import Batch, Output
from kdal_cli.values import NonNegative


def distances(features: Tensor) -> Tensor:
    """Pairwise Euclidean distances over their mean (the diagonal left out), (B, D) -> (B, B)."""
    square = (features[:, None] - features[None]).square().sum(2)  # (B, B, D) -> (B, B)
    apart = square > 0
    # The root has no gradient at 0: it is taken of 1 there and masked after.
    distance = torch.where(apart, square, 1.0).sqrt() * apart
    return distance / distance.sum().div(apart.sum().clamp(min=1)).clamp(min=1e-12)


def angles(features: Tensor) -> Tensor:
    """cos of the angle at b between a and c, for every triplet, (B, D) -> (B, B, B)."""
    edges = features[None] - features[:, None]  # (B, B, D): from b to each other image
    square = edges.square().sum(2, keepdim=True)  # (B, B, 1)
    apart = square > 0  # an edge of no length has no direction, and passes no gradient on
    edges = torch.where(apart, edges / torch.where(apart, square, 1.0).sqrt(), 0.0)
    return edges @ edges.transpose(1, 2)  # (B, B, B)


def rkd(
    student: Output,
    teacher: Output,
    batch: Batch,
    *,
    distance_weight: NonNegative = 25.0,
    angle_weight: NonNegative = 50.0,
) -> Tensor:
    """Smooth-L1 between mean-normalised distances and between triplet angles of penultimate features -> ().

    Park et al. 2019, arXiv:1904.05068. Relational: one number for the batch. Unchanged under rotation and scaling of
    either side, so the two feature spaces need not have the same width.
    """
    distance = F.smooth_l1_loss(distances(student.features), distances(teacher.features))
    angle = F.smooth_l1_loss(angles(student.features), angles(teacher.features))
    return distance_weight * distance + angle_weight * angle
