"""The baseline that every other sampler has to beat."""

import torch
from torch import Generator

from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import top
from kdal_cli.types import Query


def random(pool: Evidence, k: int, rng: Generator) -> Query:
    """k images without replacement, uniformly. Every score is 0: none is better than another.

    Looks at no model: time N log N, memory N.

    Helps as the sample that is like the pool, and as the baseline that every other sampler has to beat. Hurts where
    classes are rare: it meets them as seldom as the pool does.
    """
    return top(torch.zeros(len(pool)), k, pool.ids, rng)
