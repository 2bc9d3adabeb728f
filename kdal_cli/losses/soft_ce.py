"""The teacher's softened answers, by cross-entropy."""

import torch.nn.functional as F
from torch import Tensor

from kdal_cli.losses._softmax import log_softened
from kdal_cli.types import Batch, Output
from kdal_cli.values import Positive


def soft_ce_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """−T² · Σ_c q_t log q_s with q = softmax(z/T), nats, (B, C) x 2 -> (B,). Hinton et al. 2015, arXiv:1503.02531.

    The same gradient as `kd`; larger by T² times the teacher's entropy, so it is not zero when student equals teacher.
    """
    teacher = F.softmax(teacher_logits / temperature, dim=1)  # (B, C)
    return -(temperature**2) * (teacher * log_softened(student_logits, temperature)).sum(1)


def soft_ce(student: Output, teacher: Output, batch: Batch, *, temperature: Positive = 4.0) -> Tensor:
    """Soft labels by cross-entropy, (B,). See `soft_ce_loss`."""
    return soft_ce_loss(student.logits, teacher.logits, temperature)
