"""Ask where the model is unsure, and sure of something else than for the images already chosen."""

import torch
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import shuffled
from kdal_cli.types import Query
from kdal_cli.values import NonNegative


def uncertainty(probs: Tensor) -> Tensor:
    """1 − (p₁ − p₂), the two largest probabilities, (N, C) -> (N,), from 0 to 1.

    As the sum of all but the largest and the second once more, so that a saturated softmax still has an order.
    """
    others = probs.scatter(1, probs.argmax(1, keepdim=True), 0)  # (N, C)
    return others.sum(1) + others.amax(1)


def relevance(unsure: Tensor, distance: Tensor) -> Tensor:
    """u + d, d scaled to lie from 0 to 1, or 0 when all are equal, (N,), (N,) -> (N,), from 0 to 2."""
    spread = distance - distance.min()
    return unsure + spread / spread.max() if spread.max() > 0 else unsure


def falcun(pool: Evidence, k: int, rng: Generator, *, gamma: NonNegative = 10.0) -> Query:
    """k images drawn one after the other in proportion to r^γ, r = u + d scaled to [0, 1] over the images left.

    u = 1 − (p₁ − p₂) is the uncertainty, d = min(u, ‖p − p_j‖₁ for every j chosen) the distance to what is chosen, in
    the space of probabilities. Gilhuber et al. 2024, ECML PKDD, "FALCUN: A Simple and Efficient Deep Active Learning
    Strategy"; d is scaled anew at each pick from its own minimum, as in the authors' code. Where every image left is as
    good as a chosen one, d is 0 and r is u; the authors' code then draws evenly. score: r.

    Time k·N·C, memory N·C, no features; one draw for each image left and each pick.

    Helps when features are wide and the query large: uncertainty leads at first and diversity takes over by itself.
    Hurts where probabilities tell little: two classes leave one dimension to be diverse in, and images that differ only
    in their features look alike.
    """
    order = shuffled(pool.ids, rng)  # (N,) so that a draw belongs to an image, wherever it lies
    probs = pool.logits[order.to(pool.logits.device)].double().softmax(1)  # (N, C)
    unsure = uncertainty(probs)
    distance, left = unsure.clone(), torch.arange(len(pool), device=probs.device)
    rows, scores = [], []
    for _ in range(min(k, len(pool))):
        relevant = relevance(unsure[left], distance[left])  # (N - picks,)
        highest = relevant.max()
        weights = (relevant / highest) ** gamma if highest > 0 else torch.ones_like(relevant)
        pick = int(torch.multinomial(weights.cpu(), 1, generator=rng))
        row = int(left[pick])
        rows.append(row)
        scores.append(float(relevant[pick]))
        left = torch.cat([left[:pick], left[pick + 1 :]])
        distance = torch.minimum(distance, torch.cdist(probs, probs[row, None], p=1)[:, 0])
    return Query(order[rows], torch.tensor(scores, dtype=torch.float64))
