"""Ask where dropout masks spread the probabilities."""

from collections.abc import Iterable

import torch
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import top
from kdal_cli.samplers.bald import Draws
from kdal_cli.types import Query


def mean_std_score(draws: Iterable[Tensor]) -> Tensor:
    """(1/C) Σ_c √(mean p_c² − (mean p_c)²) over draws, K x (N, C) -> (N,) in float64, from 0 to √(C − 1) / C.

    The variance is a running mean (Welford 1962): it keeps the digits that the difference of two means loses.
    """
    mean, variance = torch.zeros(()), torch.zeros(())
    for count, logits in enumerate(draws, start=1):
        probs = logits.double().softmax(1)  # (N, C)
        before = probs - mean
        mean = mean + before / count
        variance = variance + (before * (probs - mean) - variance) / count
    return variance.sqrt().mean(1)  # (N,)


def mean_std(pool: Evidence, k: int, rng: Generator, *, draws: Draws = 10) -> Query:
    """The k images with the largest mean over classes of the standard deviation of p_c over K draws.

    Kendall et al. 2015, arXiv:1511.02680, and Kampffmeyer et al. 2016, for segmentation; for active learning Gal et al.
    2017, arXiv:1703.02910. Of a committee the draws are its members.

    K passes over the pool, time K·N·C and memory N·C besides.

    Helps where draws move the probabilities without changing the predicted class, which `variance_ratio` does not see.
    Hurts where small probabilities matter: an absolute deviation hardly counts them; Gal et al. found it little better
    than random on MNIST.
    """
    return top(mean_std_score(pool.draws(draws, rng)), k, pool.ids, rng)
