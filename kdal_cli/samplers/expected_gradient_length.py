"""Ask for images whose label, whatever it is, would move the last layer far."""

import torch
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import top
from kdal_cli.types import Query

CHUNK = 4096
"""Images whose features are held in float64 at a time."""


def expected_gradient_length_score(logits: Tensor, features: Tensor) -> Tensor:
    """‖z‖ Σ_y p_y ‖p − e_y‖, (N, C), (N, D) -> (N,) in float64, at least 0.

    ‖p − e_y‖² = 1 − 2 p_y + ‖p‖², and for the likeliest class from the probabilities of the others alone, so that a
    saturated softmax still has an order.
    """
    probs = logits.double().softmax(1)  # (N, C)
    likeliest = logits.argmax(1, keepdim=True)  # (N, 1)
    others = probs.scatter(1, likeliest, 0)
    apart = 1 - 2 * probs + probs.square().sum(1, keepdim=True)  # (N, C) ‖p − e_y‖²
    to_likeliest = others.sum(1, keepdim=True).square() + others.square().sum(1, keepdim=True)  # (N, 1)
    residual = (probs * apart.scatter(1, likeliest, to_likeliest).sqrt()).sum(1)  # (N,)
    lengths = [torch.linalg.vector_norm(some, dim=1, dtype=torch.float64) for some in features.split(CHUNK)]
    return residual * torch.cat(lengths)


def expected_gradient_length(pool: Evidence, k: int, rng: Generator) -> Query:
    """The k images with the largest Σ_y p_y ‖∇ℓ(x, y)‖ = ‖z‖ Σ_y p_y ‖p − e_y‖, the mean length of the gradient.

    Settles et al. 2008; Settles and Craven 2008. Here of the cross-entropy with respect to the weights of the last
    layer alone, (p − e_y) ⊗ z with z its input, without its bias, as in `badge`.

    One pass for logits and features, time and memory N·(C + D): no gradient is materialised.

    Helps as uncertainty that asks how much a label would change the model. Hurts where the norm of the features varies
    for other reasons: an image can score high by ‖z‖ alone, as outliers do, and near-duplicates score alike.
    """
    features = pool.features  # first: one pass gives both
    return top(expected_gradient_length_score(pool.logits, features), k, pool.ids, rng)
