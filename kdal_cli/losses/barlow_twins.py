"""Features that correlate with the teacher's one by one, and each with no other."""

import torch
from torch import Tensor, nn

from kdal_cli.types import Batch, Examples, Output
from kdal_cli.values import NonNegative

ROUNDING = 8
"""Units of the last place, of its size, that a constant feature may seem to vary by."""


def standardised(features: Tensor) -> Tensor:
    """(z − mean) / deviation over the batch, biased, (B, D) -> (B, D). A feature that is constant becomes 0."""
    apart = features - features.mean(0)
    square, rounding = apart.square().mean(0), ROUNDING * torch.finfo(features.dtype).eps  # (D,), ()
    varies = square > rounding**2 * features.square().mean(0)  # (D,)
    # The root has no gradient at 0: it is taken of 1 there and masked after.
    return torch.where(varies, apart / torch.where(varies, square, 1.0).sqrt(), 0.0)


def barlow_twins_loss(student: Tensor, teacher: Tensor, off_diagonal: float) -> Tensor:
    """Σ_i (1 − C_ii)² + λ Σ_{i≠j} C_ij², (B, D) x 2 -> (). C: correlations over the batch, student's i, teacher's j.

    Zbontar et al. 2021, arXiv:2103.03230, eq. 1 and 2. Unchanged under z → az + b of any feature, a > 0: the 1e-5 that
    the authors' code adds to the variance is not in the paper, and not here.
    """
    correlation = standardised(student).T @ standardised(teacher) / len(student)  # (D, D)
    diagonal = correlation.diagonal()  # (D,)
    rest = correlation - torch.diag(diagonal)  # (D, D)
    return (1 - diagonal).square().sum() + off_diagonal * rest.square().sum()


class BarlowTwins(nn.Module):
    """`barlow_twins_loss` between a linear projection of the student's features and the teacher's features -> ().

    Relational: one number for the batch, which grows with D, the number of the teacher's features. The projection is
    trained with the student and never ships. The teacher's features stay as they are, so where these correlate with
    each other both sums cannot be zero at once.

    student, teacher: outputs of any one batch, for the width of their features.
    """

    def __init__(
        self, student: Output, teacher: Output, examples: Examples, *, off_diagonal: NonNegative = 0.005
    ) -> None:
        super().__init__()
        self.off_diagonal = off_diagonal
        self.projector = nn.Linear(student.features.shape[1], teacher.features.shape[1], bias=False)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        return barlow_twins_loss(self.projector(student.features), teacher.features, self.off_diagonal)
