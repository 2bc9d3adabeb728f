"""Ask for the images that a step of training on would lower the loss of held-out images most."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import highest, shuffled
from kdal_cli.samplers._limits import refuse_more
from kdal_cli.samplers.badge import residuals
from kdal_cli.types import Query
from kdal_cli.values import Count, Positive

MOST = 2**29
"""Numbers in float64 that are held: 4 GiB."""


def errors(logits: Tensor, labels: Tensor) -> Tensor:
    """p − e_y, the gradient of cross-entropy with respect to the logits, (n, C), (n,) -> (n, C) in float64."""
    probs = logits.double().softmax(1)
    return probs - F.one_hot(labels.to(logits.device), logits.shape[1])


def moved(errors: Tensor, features: Tensor, others: Tensor) -> Tensor:
    """G z + g for each of the others, (n, C), (n, D), (O, D) -> (O, C): their logits when weight and bias are G and g.

    G (C, D), g (C,) are the gradient of the summed loss of n images with respect to the last layer.
    """
    return F.linear(others, errors.T @ features, errors.sum(0))


def held_out(pool: Evidence) -> tuple[Tensor, Tensor, Tensor]:
    """Features (V, D) and logits (V, C), in float64, and labels (V,) of the images whose loss counts."""
    if len(pool.validation_ids):
        seen, logits, labels = pool.validation_features, pool.validation_logits, pool.validation_labels
    else:
        seen = torch.cat([pool.features, pool.labelled_features])
        logits = torch.cat([pool.logits, pool.labelled_logits])
        labels = torch.cat([pool.logits.argmax(1), pool.labels.to(seen.device)])
    return seen.double(), logits.double(), labels.to(seen.device)


def glister(pool: Evidence, k: int, rng: Generator, *, lr: Positive = 0.01, refresh: Count = 1) -> Query:
    """The k images whose gradients of the last layer agree most with that of the held-out loss, chosen greedily.

    Images of the pool have the predicted label. The last layer takes a step −lr Σ ∇ℓ over all labelled images; then
    again and again the image of the largest ⟨∇ℓ_i, ∇L⟩, L the mean loss of the held-out images, is chosen and the last
    layer takes the step −lr ∇ℓ_i, which changes L: Killamsetty et al. 2021, arXiv:2012.10630, as in the authors' code
    (DISTIL). Held out are the validation images; without any, the pool with its predictions and the labelled images,
    N + M = V. `refresh` images are chosen between two steps. score: ⟨∇ℓ_i, ∇L⟩, which times lr is what L falls by.

    Time (k/refresh)·(N + V)·C·D, memory (N + V)·(C + D); no gradient is materialised. More candidates than 2²⁹ ÷
    (C + D) are refused beforehand.

    Helps when the held-out images are distributed as the test images and the pool is not: it asks for what lowers
    their loss. Hurts when predictions are often wrong, whose gradients then point the wrong way, and without validation
    images: the loss is then mostly that of the predictions, and falls by what makes the model surer of them.
    """
    order = shuffled(pool.ids, rng)  # (N,)
    features = pool.features
    width = pool.classes + features.shape[1]
    refuse_more(pool, MOST // width, "glister", f"it holds {width:,} numbers of each in float64")
    there = order.to(features.device)
    z, told = features[there].double(), pool.logits[there].double()  # (N, D), (N, C)
    a = residuals(told)  # (N, C)
    seen, logits, labels = held_out(pool)  # (V, D), (V, C), (V,)
    known = errors(pool.labelled_logits, pool.labels)  # (M, C)
    logits = logits - lr * moved(known, pool.labelled_features.double(), seen)
    rows = torch.zeros(0, dtype=torch.int64)
    scores, any_order = [], torch.arange(len(pool))
    while len(rows) < min(k, len(pool)):
        gain = (a * moved(errors(logits, labels) / len(labels), seen, z)).sum(1).cpu()  # (N,)
        gain[rows] = -torch.inf
        chosen = highest(gain, min(refresh, k - len(rows), len(pool) - len(rows)), any_order)
        rows, scores = torch.cat([rows, chosen]), [*scores, gain[chosen]]
        logits = logits - lr * moved(a[chosen], z[chosen], seen)
    return Query(order[rows], torch.cat(scores))
