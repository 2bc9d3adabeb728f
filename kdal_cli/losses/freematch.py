"""FixMatch whose thresholds follow how sure the student is, of all images and of each class."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.losses._semi import Rate, Running, masked_ce
from kdal_cli.types import Batch, Examples, Output
from kdal_cli.values import NonNegative, Share

TINY = 1e-12


def thresholds(overall: Tensor, mean: Tensor) -> Tensor:
    """τ_c = τ · p̃_c / max p̃, () and (C,) -> (C,). Wang et al. 2023, arXiv:2205.07246."""
    return overall * mean / mean.max()


def fairness_loss(strong_logits: Tensor, mask: Tensor, mean: Tensor, histogram: Tensor) -> Tensor:
    """Σ_c norm(p̃/h̃)_c · log norm(p̄/h̄)_c -> (), nats, at most 0; 0 where nobody counts.

    p̄, h̄: mean and histogram of the answers to the strong views (B, C) that count, mask (B,). Made small, it makes the
    two distributions differ: answers are spread over classes that are rarely named. A class that no answer names has
    p/h = 0. As the authors' code, with their 1e-12 within the logarithm.
    """
    probs, counts = strong_logits.softmax(1), mask.to(strong_logits)[:, None]  # (B, C), (B, 1)
    many = counts.sum().clamp(min=1)
    named = F.one_hot(probs.argmax(1), probs.shape[1]).to(probs)  # (B, C)
    goal = _normalised(_over(mean, histogram).to(probs))  # (C,)
    here = _normalised(_over((probs * counts).sum(0) / many, (named * counts).sum(0) / many))  # (C,)
    return torch.where(mask.any(), (goal * torch.log(here + TINY)).sum(), 0.0)


class Freematch(nn.Module):
    """FixMatch with the thresholds of `thresholds`, plus `fairness` times `fairness_loss` -> (B,). Needs no teacher.

    τ, p̃ and h̃ follow the mean confidence, the mean answer and the histogram of first choices of the weak views; they
    start at 1/C, and `momentum` of them is left after a step. An image counts whose confidence is at least the τ_c of
    its class. May be negative, by `fairness_loss`.
    """

    def __init__(
        self,
        student: Output,
        teacher: Output | None,
        examples: Examples,
        *,
        momentum: Share = 0.999,
        fairness: NonNegative = 0.01,
    ) -> None:
        super().__init__()
        classes = student.logits.shape[1]
        even = torch.full((classes,), 1 / classes)
        self.fairness = fairness
        self.overall, self.mean, self.histogram = (
            Running(momentum, start) for start in (even[0].clone(), even, even.clone())
        )
        self.rate = Rate()

    def forward(self, student: Output, teacher: Output | None, batch: Batch, strong: Output) -> Tensor:
        probs = student.logits.detach().softmax(1)
        confidence, choice = probs.max(1)  # (B,), (B,)
        overall, mean = self.overall(confidence.mean()), self.mean(probs.mean(0))
        histogram = self.histogram(F.one_hot(choice, probs.shape[1]).to(probs).mean(0))
        mask = confidence >= thresholds(overall, mean)[choice]
        self.rate(mask)
        fair = fairness_loss(strong.logits, mask, mean, histogram)
        return masked_ce(strong.logits, choice, mask) + self.fairness * fair

    def learned(self) -> dict[str, float]:
        return {"mask": float(self.rate.value), "threshold": float(self.overall.value)}


def _over(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, 0 where whole is."""
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, 1.0), 0.0)


def _normalised(x: Tensor) -> Tensor:
    return x / x.sum().clamp(min=TINY)
