"""What features are worth before any head has learnt from them, and whether they have collapsed.

Axis letters: N images, Q queries, D features, k neighbours, C classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURS, TAU = 20, 0.07
"""Who votes on a class, and how much less those count that are farther."""

COLLAPSED_SPREAD, COLLAPSED_RANK = 0.05, 2.0
"""Below either of them features tell images apart no more."""


def spread(features: Tensor) -> float:
    """√D · mean over d of the deviation of z_d / ‖z‖, (N, D) -> from 0, all alike, to about 1, in every direction."""
    return float(F.normalize(features.double(), dim=1).std(0, correction=0).mean() * features.shape[1] ** 0.5)


def effective_rank(features: Tensor) -> float:
    """exp(H(σ / Σ σ)), σ the singular values of the centred (N, D): how many directions they use, from 1 to D.

    Roy and Vetterli 2007 (EUSIPCO). 1 where all are alike.
    """
    apart = features.double() - features.double().mean(0)
    values = torch.linalg.eigvalsh(apart.T @ apart).clamp(min=0).sqrt()  # (D,)
    if values.max() <= 1e-12 * features.double().norm():
        return 1.0
    shares = values / values.sum()
    return float(torch.exp(-torch.special.xlogy(shares, shares).sum()))


def collapsed(spread: float, rank: float) -> bool:
    return spread < COLLAPSED_SPREAD or rank < COLLAPSED_RANK


def knn_accuracy(bank: Tensor, labels: Tensor, queries: Tensor, truth: Tensor) -> float:
    """The share of `queries` (Q, D) on which the k nearest of `bank` (N, D) are right, weighing exp(cos / τ).

    Wu et al. 2018, arXiv:1805.01978, section 3.4. k: 20, or as many as there are.
    """
    near = F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T  # (Q, N)
    scores, rows = near.topk(min(NEIGHBOURS, len(bank)), dim=1)  # (Q, k)
    votes = torch.zeros(len(queries), int(labels.max()) + 1, device=queries.device)  # (Q, C)
    votes.scatter_add_(1, labels[rows], ((scores - 1) / TAU).exp())
    return float((votes.argmax(1) == truth).float().mean())
