"""Ask by the score of BALD and by chance, so that near-duplicates are not bought together."""

from typing import Literal

import torch
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import shuffled
from kdal_cli.samplers.bald import Draws, bald_score
from kdal_cli.types import Query
from kdal_cli.values import Positive

Variant = Literal["power", "softmax", "softrank"]


def log_weights(scores: Tensor, beta: float, variant: Variant) -> Tensor:
    """log of the unnormalised probability to be drawn first, (N,) -> (N,): β log s, β s or −β log rank.

    The highest score has rank 1; of equal ones the first is ahead. A score of 0 has the power −∞: after all others.
    """
    if variant == "power":
        return beta * scores.log()
    if variant == "softmax":
        return beta * scores
    rank = scores.argsort(descending=True, stable=True).argsort() + 1  # (N,)
    return -beta * rank.to(scores).log()


def power_bald(
    pool: Evidence, k: int, rng: Generator, *, draws: Draws = 10, beta: Positive = 1.0, variant: Variant = "power"
) -> Query:
    """k images drawn one after the other in proportion to s^β, s the score of `bald` (Kirsch et al. 2021).

    arXiv:2106.12059. All at once: the k largest β log s + G, G standard Gumbel noise of each image. variant softmax
    draws in proportion to exp(β s), softrank to rank^−β. score: that sum.

    Costs what `bald` costs, and N log N.

    Helps when k is large: near-duplicates of the best image are not all drawn, and in the paper it does as well as
    `batchbald` for a fraction of the work. Hurts when most of a large pool is uninformative: together small scores
    outweigh the few large ones unless `beta` is raised.
    """
    order = shuffled(pool.ids, rng)  # (N,) so that noise and ties belong to images, wherever they lie
    scores = bald_score(pool.draws(draws, rng)).cpu()[order]
    gumbel = -torch.empty_like(scores).exponential_(generator=rng).log()  # (N,)
    perturbed = log_weights(scores, beta, variant) + gumbel
    best = perturbed.argsort(descending=True, stable=True)[:k]
    return Query(order[best], perturbed[best])
