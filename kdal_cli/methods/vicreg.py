"""Projections of two views that agree, each of which varies, and no two of which vary together."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.methods._projector import projector
from kdal_cli.network import twice
from kdal_cli.types import Batch, Examples, Output
from kdal_cli.values import Count, NonNegative

EPS = 1e-4
"""Added to a variance before its root, as in the authors' code."""


def variance_loss(z: Tensor) -> Tensor:
    """(1/D) Σ_d max(0, 1 − √(var z_d + ε)), var unbiased over the batch, (B, D) -> ()."""
    return F.relu(1 - (z.var(0) + EPS).sqrt()).mean()


def covariance_loss(z: Tensor) -> Tensor:
    """(1/D) Σ_{i≠j} cov(z)_ij², unbiased over the batch, (B, D) -> ()."""
    apart = z - z.mean(0)
    covariance = apart.T @ apart / (len(z) - 1)  # (D, D)
    return (covariance - torch.diag(covariance.diagonal())).square().sum() / z.shape[1]


def vicreg_loss(one: Tensor, two: Tensor, invariance: float, variance: float, covariance: float) -> Tensor:
    """λ · mean (a − b)² + μ · ½ [v(a) + v(b)] + ν · [c(a) + c(b)], (B, D) x 2 -> (). Bardes et al. 2022.

    See `variance_loss` and `covariance_loss`; weights as in the authors' code, 25, 25 and 1.
    """
    spread = (variance_loss(one) + variance_loss(two)) / 2
    together = covariance_loss(one) + covariance_loss(two)
    return invariance * F.mse_loss(one, two) + variance * spread + covariance * together


class Vicreg(nn.Module):
    """`vicreg_loss` between projections of two views of each image -> (). Bardes et al. 2022, arXiv:2105.04906."""

    def __init__(
        self,
        student: Output,
        teacher: Output | None,
        examples: Examples,
        *,
        hidden: Count = 512,
        dimensions: Count = 512,
        invariance: NonNegative = 25.0,
        variance: NonNegative = 25.0,
        covariance: NonNegative = 1.0,
    ) -> None:
        super().__init__()
        self.weights = invariance, variance, covariance
        self.projector = projector(student.features.shape[1], hidden, dimensions, layers=3)

    def forward(self, student: Output, teacher: Output | None, batch: Batch, again: Tensor) -> Tensor:
        one, two = (self.projector(features) for features in twice(student, again))
        return vicreg_loss(one, two, *self.weights)
