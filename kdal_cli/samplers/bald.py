"""Ask where dropout masks disagree with each other, each of them sure."""

import torch
from torch import Generator, Tensor

from kdal_cli.evidence import Evidence
from kdal_cli.samplers._select import top
from kdal_cli.types import Query
from kdal_cli.values import Count


class Disagreement:
    """H(mean p) − mean H(p) over draws, in nats: two running sums, so that memory is N·C and never N·K·C."""

    def __init__(self) -> None:
        self.draws = 0
        self._probs = torch.zeros(())
        self._entropy = torch.zeros(())

    def add(self, logits: Tensor) -> None:
        """One more draw, (N, C)."""
        log_probs = logits.double().log_softmax(1)  # (N, C)
        probs = log_probs.exp()
        self.draws += 1
        self._probs = self._probs.to(probs) + probs
        self._entropy = self._entropy.to(probs) - (probs * log_probs).sum(1)  # (N,)

    def score(self) -> Tensor:
        """(N,) in float64, from 0 (identical draws) to log of the smaller of classes and draws."""
        mean = self._probs / self.draws  # (N, C)
        entropy = -torch.special.xlogy(mean, mean).sum(1)  # (N,)
        return (entropy - self._entropy / self.draws).clamp(min=0)


def bald(pool: Evidence, k: int, rng: Generator, *, draws: Count = 10) -> Query:
    """The k images whose label tells most about the weights: mutual information of prediction and dropout mask.

    Houlsby et al. 2011, arXiv:1112.5745; Gal et al. 2017, arXiv:1703.02910. The model needs dropout.
    """
    information = Disagreement()
    for logits in pool.draws(draws, rng):
        information.add(logits)
    return top(information.score(), k, pool.ids, rng)
