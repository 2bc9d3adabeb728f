"""Ask for images whose gradients are large and point different ways."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from kdal_cli.evidence import Evidence
from kdal_cli.samplers._select import shuffled
from kdal_cli.types import Query


def residuals(logits: Tensor) -> Tensor:
    """p − e_ŷ, the gradient of cross-entropy with respect to the logits at the predicted label, (N, C) -> (N, C)."""
    probs = logits.softmax(1)
    return probs - F.one_hot(logits.argmax(1), logits.shape[1])


def badge(pool: Evidence, k: int, rng: Generator) -> Query:
    """k-means++ over the gradients g_i = (p_i − e_ŷ) ⊗ z_i of the last layer. Ash et al. 2020, arXiv:1906.03671.

    Never N·C·D: ‖g_i − g_j‖² = ‖a_i‖²‖z_i‖² + ‖a_j‖²‖z_j‖² − 2 (a_i·a_j)(z_i·z_j) with a = p − e_ŷ, so that memory is
    N·(C + D) and a pick costs N·(C + D). The first image is the one of the largest gradient, as in the authors' code;
    score: the squared distance that an image was drawn with.
    """
    order = shuffled(pool.ids, rng)  # (N,) so that nothing hangs on the order of the pool
    seen = order.to(pool.features.device)
    a, z = residuals(pool.logits[seen].double()), pool.features[seen].double()  # (N, C), (N, D)
    size = a.square().sum(1) * z.square().sum(1)  # (N,) ‖g‖²
    distance = size.clone()
    free = torch.ones(len(pool), dtype=torch.bool, device=size.device)
    rows, scores = [], []
    for pick in range(min(k, len(pool))):
        weights = torch.where(free, distance, 0)
        if float(weights.sum()) <= 0:
            weights = free.double()  # only duplicates of what is chosen are left: any of them is as good
        row = int(weights.argmax()) if pick == 0 else _draw(weights, rng)
        rows.append(row)
        scores.append(float(distance[row]))
        free[row] = False
        inner = (a @ a[row]) * (z @ z[row])  # (N,) ⟨g_i, g_row⟩
        apart = (size + size[row] - 2 * inner).clamp(min=0)
        distance = apart if pick == 0 else torch.minimum(distance, apart)
    return Query(order[rows], torch.tensor(scores, dtype=torch.float64))


def _draw(weights: Tensor, rng: Generator) -> int:
    """One row with probability in proportion to its weight, by inversion of the cumulative sum."""
    total = weights.cumsum(0)  # (N,)
    point = torch.rand((), generator=rng, dtype=torch.float64).to(total) * total[-1]
    row = int(torch.searchsorted(total, point, right=True).clamp(max=len(weights) - 1))
    return row if weights[row] > 0 else int(weights.nonzero()[-1])
