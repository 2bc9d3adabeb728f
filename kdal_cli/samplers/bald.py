"""Ask where dropout masks disagree with each other, each of them sure."""

from collections.abc import Iterable
from typing import Annotated

import torch
from torch import Generator, Tensor
from torch.special import entr

from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import top
from kdal_cli.types import Query
from kdal_cli.values import Within

Draws = Annotated[int, Within(2)]
"""How many draws: one alone cannot disagree."""


def bald_score(draws: Iterable[Tensor]) -> Tensor:
    """H(mean p) − mean H(p) in nats, K x (N, C) -> (N,) in float64, from 0 to the logarithm of the fewer of C and K.

    Two running means, so that memory is N·C and never N·K·C.
    """
    mean, entropy = torch.zeros(()), torch.zeros(())
    for count, logits in enumerate(draws, start=1):
        probs = logits.double().softmax(1)  # (N, C)
        mean = mean + (probs - mean) / count
        entropy = entropy + (entr(probs).sum(1) - entropy) / count  # (N,)
    return (entr(mean).sum(1) - entropy).clamp(min=0)


def bald(pool: Evidence, k: int, rng: Generator, *, draws: Draws = 10) -> Query:
    """The k images with the most mutual information of label and weights, I(y; ω) = H(mean p) − mean H(p) over K draws.

    Houlsby et al. 2011, arXiv:1112.5745; with dropout masks for ω Gal et al. 2017, arXiv:1703.02910. Of a committee the
    draws are its members.

    K passes over the pool, time K·N·C and memory N·C besides.

    Helps where images are hard in themselves: doubt that every draw shares counts for nothing, unlike with entropy.
    Hurts when k is large, for near-duplicates score alike and are bought together (`batchbald`, `power_bald`), and when
    the draws hardly differ; with identical ones it is random.
    """
    return top(bald_score(pool.draws(draws, rng)), k, pool.ids, rng)
