"""Ask for the images that together tell most about the weights: what one tells, another need not tell again.

N images, n of them candidates, C classes, K draws, S combinations of answers to the images chosen so far.
"""

import math

import torch
from torch import Generator, Tensor
from torch.special import entr

from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import top
from kdal_cli.samplers.bald import Draws, bald_score
from kdal_cli.types import Query
from kdal_cli.values import Count

CHUNK = 2**22
"""Probabilities held at a time when gains are computed."""

ROUNDING = 1e-10
"""Nats. Gains nearer to each other than this are equal."""


class Answers:
    """What the images chosen so far may be answered: all S combinations of classes, or a sample of them.

    log_p: (S, K) log p(combination | draw). weight: (S,) p(combination), or 1/S each in a sample. As soon as there are
    more than `most`, a sample takes their place, the same number from p(combination | draw) of every draw.
    """

    def __init__(self, draws: Tensor, most: int, rng: Generator) -> None:
        self.log_p, self.weight = draws.new_zeros(1, len(draws)), draws.new_ones(1)  # no image, one combination
        self.most, self.each, self.rng = most, math.ceil(most / len(draws)), rng
        self.sampled = False

    def gain(self, probs: Tensor) -> Tensor:
        """I(y; ω | answers) of n images in nats, (K, n, C) -> (n,): BALD under p(draw | answers), on average."""
        draws, _, classes = probs.shape
        belief = self.log_p.softmax(1)  # (S, K) p(draw | combination)
        # Not the plain mean over draws, which a sample's beliefs need not have: then a gain could be below 0.
        known = self.weight @ belief @ entr(probs).sum(2)  # (n,) E H(y | ω)
        doubt = []
        for part in probs.split(max(1, CHUNK // (len(belief) * classes)), 1):
            mean = (belief @ part.reshape(draws, -1)).view(len(belief), -1, classes)  # (S, chunk, C)
            doubt.append(self.weight @ entr(mean).sum(2))  # (chunk,) E H(y | answers)
        return (torch.cat(doubt) - known).clamp(min=0)

    def add(self, log_probs: Tensor) -> None:
        """One more image is chosen, (K, C)."""
        draws, classes = log_probs.shape
        if not self.sampled and len(self.log_p) * classes <= self.most:
            self.log_p = (self.log_p[:, None] + log_probs.T).flatten(0, 1)  # (S·C, K)
            self.weight = self.log_p.exp().mean(1)
            return
        if not self.sampled:
            self.log_p = self.log_p[self._sample(self.log_p.T)]  # (K·each, K)
            self.weight = self.log_p.new_full((draws * self.each,), 1 / (draws * self.each))
            self.sampled = True
        self.log_p = self.log_p + log_probs.T[self._sample(log_probs)]

    def _sample(self, log_probs: Tensor) -> Tensor:
        """`each` columns in proportion to the probabilities of every row, (K, n) -> (K·each,), row by row."""
        total = log_probs.exp().cumsum(1)  # (K, n)
        points = torch.rand(len(total), self.each, generator=self.rng, dtype=torch.float64).to(total)
        return torch.searchsorted(total, points * total[:, -1:], right=True).clamp(max=total.shape[1] - 1).flatten()


def greedy(log_probs: Tensor, k: int, most: int, rng: Generator) -> tuple[list[int], list[float]]:
    """Again and again the image of the largest gain, of equal ones the first, (K, n, C) -> k ≤ n rows, their gains."""
    probs, answers = log_probs.exp(), Answers(log_probs, most, rng)
    rows: list[int] = []
    gains: list[float] = []
    while len(rows) < k:
        gain = answers.gain(probs)  # (n,)
        gain[rows] = -1
        highest = float(gain.max())
        if highest <= ROUNDING:  # everything is told, and so it stays
            rest = [row for row in range(len(gain)) if row not in rows][: k - len(rows)]
            return rows + rest, gains + [0.0] * len(rest)
        rows.append(int((gain >= highest - ROUNDING).nonzero()[0]))
        gains.append(float(gain[rows[-1]]))
        answers.add(log_probs[:, rows[-1]])
    return rows, gains


def batchbald(
    pool: Evidence,
    k: int,
    rng: Generator,
    *,
    draws: Draws = 50,
    candidates: Count = 1000,
    configurations: Count = 1000,
) -> Query:
    """The k images that together have the most mutual information with the weights, I(y_1 … y_k; ω), found greedily.

    Kirsch et al. 2019, arXiv:1906.08158. Each is the one of largest I(y; ω | answers to those chosen before), its
    score; the scores add up to the whole. The answers are all combinations of classes while these are no more than
    `configurations`, with ten classes and the default those to 3 images, and then a sample of so many. The same masks
    are drawn for all images. Only the `candidates` highest by `bald` compete, or k where that is more: that score
    bounds the gain, so one left out could not have been chosen before the gain sinks to its own.

    Two passes of K draws, over the pool and over the candidates. A pick takes time configurations·candidates·C·K, a
    fraction of a second with ten classes on one CPU core; memory N·C + K·candidates·C + K·configurations.

    Helps when near-duplicates are about: `bald` buys them together. Hurts when k is large: K draws have no more than
    log K nats to tell, 3.9 of 50; some tens of images tell most of that, and once it is told the rest go by `bald`.
    """
    seed = int(torch.randint(2**62, (), generator=rng))
    information = bald_score(pool.draws(draws, Generator().manual_seed(seed)))
    best = top(information, max(k, candidates), pool.ids, rng).rows  # (n,)
    again = pool.take(best).draws(draws, Generator().manual_seed(seed))
    log_probs = torch.stack([logits.double().log_softmax(1) for logits in again])  # (K, n, C)
    rows, gains = greedy(log_probs, min(k, len(best)), configurations, rng)
    return Query(best[rows], torch.tensor(gains, dtype=torch.float64))
