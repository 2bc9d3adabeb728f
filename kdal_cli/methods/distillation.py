"""Which of the last images an image is like: as the teacher says, without a label.

Axis letters: B batch, D features, K queue.
"""

import torch
from torch import Tensor, nn

from kdal_cli.metrics.directions import unit
from kdal_cli.types import Batch, Examples, Output
from kdal_cli.values import Count, Positive


def queue_loss(student: Tensor, teacher: Tensor, queue: Tensor, held: Tensor, tau: float, teacher_tau: float) -> Tensor:
    """KL(softmax(t · Qᵀ / τ_t) ‖ softmax(s · Qᵀ / τ)), nats, of directions (B, D) x 2 and (K, D) -> (B,).

    held: (K,) bool, which rows of the queue there are. Fang et al. 2021 (SEED), arXiv:2101.04731, whose cross-entropy
    has the same gradient.
    """
    ours, theirs = (
        (vectors @ queue.T / t).masked_fill(~held, -torch.inf).log_softmax(1)  # (B, K)
        for vectors, t in ((student, tau), (teacher, teacher_tau))
    )
    return torch.where(held, theirs.exp() * (theirs - ours), 0.0).sum(1)


class Distillation(nn.Module):
    """`queue_loss` between projected features of the student and the teacher's, of the same view of each image -> (B,).

    The queue has the teacher's features of the last `queue` images, those of the batch first, as in SEED; CompRess,
    Abbasi Koohpayegani et al. 2020, arXiv:2010.14713, compares the same distributions. The student's features come to
    the teacher's width by a linear layer, which is dropped afterwards. teacher_tau: None is `tau`.
    """

    keys: Tensor
    filled: Tensor

    def __init__(
        self,
        student: Output,
        teacher: Output,
        examples: Examples,
        *,
        queue: Count = 4096,
        tau: Positive = 0.07,
        teacher_tau: Positive | None = None,
    ) -> None:
        super().__init__()
        self.tau, self.teacher_tau = tau, teacher_tau or tau
        self.projector = nn.Linear(student.features.shape[1], teacher.features.shape[1])
        self.register_buffer("keys", torch.zeros(queue, teacher.features.shape[1]))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        ours, theirs = unit(self.projector(student.features)), unit(teacher.features.detach())
        size = len(self.keys)
        keys = torch.cat([theirs, self.keys.to(theirs)])[:size]
        filled = (self.filled + len(theirs)).clamp(max=size)
        if self.training:
            self.keys, self.filled = keys.to(self.keys), filled
        held = torch.arange(size, device=keys.device) < filled
        return queue_loss(ours, theirs, keys, held, self.tau, self.teacher_tau)
