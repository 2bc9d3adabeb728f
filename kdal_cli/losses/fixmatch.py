"""What a student is sure of in a weak view of an image, it is to say of a strong view, too."""

import torch
from torch import Tensor, nn

from kdal_cli.losses._semi import Rate, Running, aligned, masked_ce, sure
from kdal_cli.types import Batch, Examples, Output
from kdal_cli.values import Share


def fixmatch_loss(weak_probs: Tensor, strong_logits: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """(1[max p ≥ τ] · CE(z_strong, argmax p) (B,) in nats, who counts (B,) bool), from (B, C) x 2.

    Sohn et al. 2020, arXiv:2001.07685: the mean that follows is over all images, sure or not.
    """
    mask, choice = sure(weak_probs, threshold)
    return masked_ce(strong_logits, choice, mask), mask


class Fixmatch(nn.Module):
    """`fixmatch_loss` of the student's answers to a weak and a strong view of each image -> (B,). Needs no teacher.

    The weak view is the one that the recipe augments by; its answer has no gradient. align: the answers are first
    balanced between the classes by the mean of those of late (`momentum` is left of it after a step), as in ReMixMatch.
    """

    def __init__(
        self,
        student: Output,
        teacher: Output | None,
        examples: Examples,
        *,
        threshold: Share = 0.95,
        align: bool = False,
        momentum: Share = 0.999,
    ) -> None:
        super().__init__()
        self.threshold, self.align = threshold, align
        self.mean = Running(momentum, torch.full((student.logits.shape[1],), torch.nan))
        self.rate = Rate()

    def forward(self, student: Output, teacher: Output | None, batch: Batch, strong: Output) -> Tensor:
        probs = student.logits.detach().softmax(1)
        if self.align:
            probs = aligned(probs, self.mean(probs.mean(0)))
        loss, mask = fixmatch_loss(probs, strong.logits, self.threshold)
        self.rate(mask)
        return loss

    def learned(self) -> dict[str, float]:
        return {"mask": float(self.rate.value)}
