"""The mean of a student's weights over the steps, as its teacher on another view of the same images."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kdal_cli.network import owner
from kdal_cli.types import Batch, Examples, Output
from kdal_cli.values import Share


def consistency_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """(1/C) Σ_c (q_c − p_c)², the mean over the classes, (B, C) x 2 -> (B,). Tarvainen and Valpola 2017."""
    return (student_logits.softmax(1) - teacher_logits.softmax(1)).square().mean(1)


class MeanTeacher(nn.Module):
    """`consistency_loss` between the student and the mean of its weights, each on a view of its own -> (B,).

    Tarvainen and Valpola 2017, arXiv:1703.01780. Before step t, from 0, the mean moves to the student's weights:
    a ← d · a + (1 − d) · w with d = min(decay, 1 − 1/(t + 1)), as in the authors' code. It looks as the student does,
    its norms by the batch, and without a gradient; it needs no other teacher.

    student: an output that says whose it is.
    """

    steps: Tensor

    def __init__(self, student: Output, teacher: Output | None, examples: Examples, *, decay: Share = 0.99) -> None:
        super().__init__()
        self.decay, self.average = decay, copy.deepcopy(owner(student)).requires_grad_(False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, student: Output, teacher: Output | None, batch: Batch, again: Tensor) -> Tensor:
        if self.training and isinstance(student.model, nn.Module):
            self._move(student.model.parameters())
        with torch.no_grad():
            theirs = self.average(again).logits
        return consistency_loss(student.logits, theirs.to(student.logits))

    @torch.no_grad()
    def _move(self, weights: Iterable[Tensor]) -> None:
        kept = torch.clamp(1 - 1 / (self.steps + 1), max=self.decay)
        for mean, weight in zip(self.average.parameters(), weights, strict=True):
            mean.lerp_(weight, (1 - kept).to(mean))
        self.steps += 1
