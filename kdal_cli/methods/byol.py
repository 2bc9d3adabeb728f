"""What the slow mean of a network answers to one view, predicted from the other view."""

import copy

import torch
from torch import Tensor, nn

from kdal_cli.losses.byol import byol_loss
from kdal_cli.methods._projector import projector
from kdal_cli.network import owner, twice
from kdal_cli.types import Batch, Examples, Output
from kdal_cli.values import Count, Share


class Byol(nn.Module):
    """½ [`losses.byol.byol_loss`(p(a), b') + the same with the views changed over] -> (B,).

    Grill et al. 2020, arXiv:2006.07733. p: the predictor on the projection of a view; b': the other view's projection
    by a target whose weights are a mean of the network's, t ← momentum · t + (1 − momentum) · w before each step. The
    target looks as the network does, its norms by the batch, and has no gradient.

    momentum: of the call, so that it may be scheduled; the paper's rises to 1 by a cosine.
    """

    def __init__(
        self,
        student: Output,
        teacher: Output | None,
        examples: Examples,
        *,
        hidden: Count = 256,
        dimensions: Count = 128,
    ) -> None:
        super().__init__()
        self.projector = projector(student.features.shape[1], hidden, dimensions)
        self.predictor = projector(dimensions, hidden, dimensions)
        self.target = copy.deepcopy(owner(student)).requires_grad_(False)
        self.target_projector = copy.deepcopy(self.projector).requires_grad_(False)

    def forward(
        self, student: Output, teacher: Output | None, batch: Batch, again: Tensor, *, momentum: Share = 0.99
    ) -> Tensor:
        if self.training:
            self._move(owner(student), momentum)
        predicted = [self.predictor(self.projector(features)) for features in twice(student, again)]
        with torch.no_grad():
            first = batch.pixels[-len(again) :]
            targets = [self.target_projector(self.target(pixels).features) for pixels in (first, again)]
        one, two = (byol_loss(p, t.to(p)) for p, t in zip(predicted, reversed(targets), strict=True))
        return (one + two) / 2

    @torch.no_grad()
    def _move(self, network: nn.Module, momentum: float) -> None:
        for mine, theirs in ((self.target, network), (self.target_projector, self.projector)):
            for mean, weight in zip(mine.parameters(), theirs.parameters(), strict=True):
                mean.lerp_(weight, 1 - momentum)
