"""The teacher's first choice, as if it were the label."""

import torch.nn.functional as F
from torch import Tensor

from kdal_cli.types import Batch, Output


def hard_label_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """CE(z_s, argmax z_t), nats, (B, C) x 2 -> (B,): pseudo-labels; Touvron et al. 2021, arXiv:2012.12877, eq. 3."""
    return F.cross_entropy(student_logits, teacher_logits.argmax(1), reduction="none")


def hard_label(student: Output, teacher: Output, batch: Batch) -> Tensor:
    """Cross-entropy against the teacher's arg max, (B,). See `hard_label_loss`."""
    return hard_label_loss(student.logits, teacher.logits)
