"""What terms on unlabelled images share: means over the steps, and answers that are balanced between the classes.

Axis letters: B batch, C classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
