"""Relations between images rather than answers: distances and angles among the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdal_cli.types import Batch, Output
from kdal_cli.values import NonNegative

SHORTEST = 1e-6
"""The least distance between two images, of the authors' code: below it a root has too steep a gradient, or none."""


def distances(features: Tensor) -> Tensor:
    """Pairwise Euclidean distances over their mean, (B, D) -> (B, B). The mean leaves out the diagonal alone.

    Of two images with the same features it is `SHORTEST`, which counts in the mean and passes no gradient.
    """
    square = (features[:, None] - features[None]).square().sum(2)  # (B, B, D) -> (B, B)
    distance = square.clamp(min=SHORTEST**2).sqrt() * ~torch.eye(len(square), dtype=torch.bool, device=square.device)
    pairs = len(square) * (len(square) - 1)
    return distance / (distance.sum() / pairs) if pairs else distance


def angles(features: Tensor) -> Tensor:
    """cos of the angle at b between a and c, for every triplet, (B, D) -> (B, B, B).

    0 with two images in one place, and without a gradient, where the authors' code divides one by 1e-12.
    """
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
