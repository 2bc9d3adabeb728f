"""Which image is it? The embedding of one network, told apart among both networks' embeddings of the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.types import Batch, Examples, Output
from kdal_cli.values import Count, Positive


def nt_xent_loss(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """½ [ℓ(s_b, t_b) + ℓ(t_b, s_b)], nats, from embeddings (B, d) x 2 -> (B,).

    ℓ(a, p) = −log [exp(cos(a, p)/τ) / Σ_{x ≠ a} exp(cos(a, x)/τ)], where x runs over all 2B embeddings but a itself.
    Chen et al. 2020, arXiv:2002.05709, eq. 1, the two networks in place of the two views.
    """
    both = F.normalize(torch.cat([student, teacher]), dim=1)  # (2B, d)
    scores = (both @ both.T / tau).fill_diagonal_(-torch.inf)  # (2B, 2B)
    partners = torch.arange(len(both), device=both.device).roll(len(student))  # (2B,)
    return F.cross_entropy(scores, partners, reduction="none").view(2, -1).mean(0)  # (2B,) -> (B,)


class NtXent(nn.Module):
    """Normalised temperature-scaled cross-entropy between linear embeddings of both networks' features -> (B,).

    See `nt_xent_loss`. Relational: the other images of the batch are what an image is told from. Both embeddings are
    learned, with the student; SimCLR's have a hidden layer. An image that comes twice is told from itself.

    student, teacher: outputs of any one batch, for the width of their features.
    """

    def __init__(
        self,
        student: Output,
        teacher: Output,
        examples: Examples,
        *,
        dimensions: Count = 128,
        tau: Positive = 0.1,
    ) -> None:
        super().__init__()
        self.tau = tau
        self.student = nn.Linear(student.features.shape[1], dimensions)
        self.teacher = nn.Linear(teacher.features.shape[1], dimensions)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        return nt_xent_loss(self.student(student.features), self.teacher(teacher.features), self.tau)
