"""What terms on unlabelled images share: means over the steps, and answers that are balanced between the classes.

Axis letters: B batch, C classes, D features, E entries of an embedding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.metrics.directions import unit

RECENT = 0.95
"""How much a figure for the log remembers: about twenty steps."""

EPS = 1e-6
"""Added to both sides of a ratio of class frequencies, as in USB's code."""


class Running(nn.Module):
    """A mean that follows the steps, m ← d · m + (1 − d) · x, in training alone; of shape `start`.

    Where `start` is NaN the first x is taken as it is. A buffer, so that it is part of a snapshot.
    """

    value: Tensor

    def __init__(self, decay: float, start: Tensor) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("value", start)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """The mean with x in it; in eval mode what it would be if there were none yet."""
        held = torch.where(self.value.isnan(), x.to(self.value), self.value)
        if self.training:
            self.value = held = self.decay * held + (1 - self.decay) * x
        return held


class Window(nn.Module):
    """The mean of the last `steps` probabilities (C,) that it is given in training; a buffer, 0 before these."""

    held: Tensor

    def __init__(self, steps: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("held", torch.zeros(steps, classes))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """The mean with x in it; in eval mode what it would be."""
        held = torch.cat([x[None].to(self.held), self.held[:-1]])
        if self.training:
            self.held = held
        return held.sum(0) / held.any(1).sum()


class Embedding(nn.Module):
    """Two linear layers, ReLU between them, whose answers have the length 1: (B, D) -> (B, E).

    slope: of the ReLU below zero. It trains with the student.
    """

    def __init__(self, features: int, entries: int, slope: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, features), nn.LeakyReLU(slope), nn.Linear(features, entries))

    def forward(self, features: Tensor) -> Tensor:
        return unit(self.layers(features))


class Rate(Running):
    """The share of the images of late that were sure enough to count."""

    def __init__(self) -> None:
        super().__init__(RECENT, torch.full((), torch.nan))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B,) bool, who counts."""
        return super().forward(x.float().mean())


def sure(probs: Tensor, threshold: Tensor | float) -> tuple[Tensor, Tensor]:
    """(whether the largest probability is at least the threshold (B,), its class (B,)), from (B, C)."""
    confidence, choice = probs.max(1)
    return confidence >= threshold, choice


def masked_ce(logits: Tensor, choice: Tensor, mask: Tensor) -> Tensor:
    """1[sure] · CE(z, ŷ), nats, (B, C), (B,) and (B,) bool -> (B,). The mean that follows is over all B."""
    return mask.to(logits) * F.cross_entropy(logits, choice, reduction="none")


def aligned(probs: Tensor, mean: Tensor) -> Tensor:
    """p_c · (1/C + ε) / (p̄_c + ε), rows then summing to 1, (B, C) and (C,) -> (B, C).

    What has been answered too often of late is answered less: Berthelot et al. 2020, arXiv:1911.09785, with the uniform
    distribution as the goal and the mean answer p̄ of the last steps.
    """
    turned = probs * (1 / len(mean) + EPS) / (mean + EPS)
    return turned / turned.sum(1, keepdim=True)


def balanced(probs: Tensor, mean: Tensor) -> Tensor:
    """p_c / p̄_c, rows then summing to 1, (B, C) and (C,) -> (B, C): `aligned` as CoMatch and SimMatch have it."""
    turned = probs / mean.clamp(min=torch.finfo(mean.dtype).tiny)
    return turned / turned.sum(1, keepdim=True)


def soft_ce(logits: Tensor, probs: Tensor, mask: Tensor) -> Tensor:
    """1[sure] · (−Σ_c p_c log softmax(z)_c), nats, (B, C) x 2 and (B,) bool -> (B,)."""
    return mask.to(logits) * -(probs * logits.log_softmax(1)).sum(1)
