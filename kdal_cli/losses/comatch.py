"""Classes and embeddings of the images without a label, each of which corrects the other.

Axis letters: B batch, L labelled part, U images without a label, C classes, E entries of an embedding, K of the memory.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.losses._semi import Embedding, Rate, Window, balanced, soft_ce, sure
from kdal_cli.types import Batch, Examples, Output
from kdal_cli.values import Count, NonNegative, Positive, Share

SLOPE = 0.1
"""Of the embedding's leaky ReLU."""

EPS = 1e-7
"""Within the logarithm of `graph_loss`."""


def smoothed(probs: Tensor, near: Tensor, answers: Tensor, share: float, tau: float) -> Tensor:
    """share · p + (1 − share) · softmax(near / τ) · answers: (U, C), (U, K) similarities and (K, C) -> (U, C)."""
    return share * probs + (1 - share) * (near / tau).softmax(1) @ answers


def graph_loss(probs: Tensor, one: Tensor, two: Tensor, tau: float, least: float) -> Tensor:
    """−Σ_j Q_ij · log(softmax(one · twoᵀ / τ)_ij + 1e-7), nats, of (U, C) and (U, E) x 2 -> (U,).

    Q: how alike the answers are, p · pᵀ with a diagonal of 1, 0 below `least`, rows then summing to 1. Li et al. 2021.
    """
    alike = (probs @ probs.T).fill_diagonal_(1.0)  # (U, U)
    alike = torch.where(alike >= least, alike, 0.0)
    alike = alike / alike.sum(1, keepdim=True)
    found = (one @ two.T / tau).softmax(1)  # (U, U)
    return -(alike * (found + EPS).log()).sum(1)


class Comatch(nn.Module):
    """Mean of 1[max p ≥ threshold] · (−Σ p log q_strong), plus `contrast` times the mean of `graph_loss` -> ().

    Li, Xiong and Hoi 2021, arXiv:2011.11183. p: the answer to the weak view, divided by the mean of those of the last
    `WINDOW` steps, and, once the memory is full, `smoothed` by the answers in it to images that look alike. The memory
    holds embeddings and answers, not smoothed, of the last images, and those of the labelled ones with their labels;
    it is of `on=both` therefore. The graph asks for embeddings of two strong views, here of the same kind.
    """

    WINDOW = 32
    others_of: Literal["pool"] = "pool"
    keys: Tensor
    answers: Tensor
    filled: Tensor

    def __init__(
        self,
        student: Output,
        teacher: Output | None,
        examples: Examples,
        *,
        threshold: Share = 0.95,
        contrast: NonNegative = 1.0,
        tau: Positive = 0.2,
        least: Share = 0.8,
        smoothing: Share = 0.9,
        memory: Count = 640,
        dimensions: Count = 64,
    ) -> None:
        super().__init__()
        classes = student.logits.shape[1]
        self.threshold, self.contrast, self.tau, self.least, self.smoothing = threshold, contrast, tau, least, smoothing
        self.embedding = Embedding(student.features.shape[1], dimensions, SLOPE)
        self.mean, self.rate = Window(self.WINDOW, classes), Rate()
        self.register_buffer("keys", torch.zeros(memory, dimensions))
        self.register_buffer("answers", torch.zeros(memory, classes))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def forward(self, student: Output, teacher: Output | None, batch: Batch, strong: Output, second: Output) -> Tensor:
        unlabelled = len(strong.logits)  # the last ones
        with torch.no_grad():
            seen = self.embedding(student.features)  # (B, E)
            weak = student.logits[-unlabelled:].softmax(1)  # (U, C)
            first = balanced(weak, self.mean(weak.mean(0)).to(weak))
            near = seen[-unlabelled:] @ self.keys.to(seen).T  # (U, K)
            better = smoothed(first, near, self.answers.to(first), self.smoothing, self.tau)
            probs = torch.where(self.filled >= len(self.keys), better, first)
            labelled = F.one_hot(batch.labels, probs.shape[1]).to(probs)
            self._remember(torch.cat([seen[-unlabelled:], seen[: len(labelled)]]), torch.cat([first, labelled]))
            mask, _ = sure(probs, self.threshold)
        self.rate(mask)
        one, two = (self.embedding(view.features) for view in (strong, second))
        graph = graph_loss(probs, one, two, self.tau, self.least)
        return (soft_ce(strong.logits, probs, mask) + self.contrast * graph).mean()

    def learned(self) -> dict[str, float]:
        return {"mask": float(self.rate.value)}

    def _remember(self, keys: Tensor, answers: Tensor) -> None:
        """Put (n, E) and (n, C) in front, and forget as many of the oldest. In training alone."""
        if not self.training:
            return
        size = len(self.keys)
        self.keys = torch.cat([keys.to(self.keys), self.keys])[:size]
        self.answers = torch.cat([answers.to(self.answers), self.answers])[:size]
        self.filled = (self.filled + len(keys)).clamp(max=size)
