"""Ask where dropout masks predict different classes."""

from collections.abc import Iterable

from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import top
from kdal_cli.samplers.bald import Draws
from kdal_cli.samplers.votes import vote_shares
from kdal_cli.types import Query


def variance_ratio_score(draws: Iterable[Tensor]) -> Tensor:
    """1 − the share of the most predicted class, K x (N, C) -> (N,) in float64, from 0 to 1 − 1 / the fewer of C, K."""
    return 1 - vote_shares(draws).amax(1)


def variance_ratio(pool: Evidence, k: int, rng: Generator, *, draws: Draws = 10) -> Query:
    """The k images with the largest 1 − f/K, f of K draws predicting the most frequent class.

    Freeman 1965; with dropout masks Gal et al. 2017, arXiv:1703.02910, who call it variation ratios. Of a committee the
    draws are its members.

    K passes over the pool, time K·N·C and memory N·C besides.

    Helps where only the predicted class matters, since it does not depend on calibration. Hurts with few draws: it
    takes at most K values, and ties between them are broken at random; draws that doubt together without changing
    their prediction score 0.
    """
    return top(variance_ratio_score(pool.draws(draws, rng)), k, pool.ids, rng)
