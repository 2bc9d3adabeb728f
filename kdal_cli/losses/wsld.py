"""The teacher's softened answers, less of them where the student already does as well on the label."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdal_cli.losses._targets import targets
from kdal_cli.losses.soft_ce import soft_ce_loss
from kdal_cli.types import Batch, Output
from kdal_cli.values import Positive


def soft_label_weight(student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
    """1 − exp(−CE(z_s, y) / (CE(z_t, y) + 1e-7)), from 0 to 1, without gradient, (B, C) x 2 and y (B,) -> (B,).

    Both cross-entropies are at T = 1. Near 0 where the student knows the label better than the teacher does, near 1
    where it knows it worse, 1 − 1/e where they are even. 1e-7 is the authors' code's.
    """
    ours = F.cross_entropy(student_logits.detach(), target, reduction="none")  # (B,)
    theirs = F.cross_entropy(teacher_logits, target, reduction="none")  # (B,)
    return -torch.expm1(-ours / (theirs + 1e-7))


def wsld_loss(student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """weight · −T² · Σ_c q_t log q_s with q = softmax(z/T), nats, (B, C) x 2 and y (B,) -> (B,).

    Zhou et al. 2021, arXiv:2102.00650. A cross-entropy, as in the paper and in the authors' code, not a divergence: as
    the weight has no gradient both have the same one, but this is not zero when student equals teacher.
    """
    weight = soft_label_weight(student_logits, teacher_logits, target)  # (B,)
    return weight * soft_ce_loss(student_logits, teacher_logits, temperature)


def wsld(student: Output, teacher: Output, batch: Batch, *, temperature: Positive = 4.0) -> Tensor:
    """Weighted soft labels, (B,); y of an image without label is the teacher's first choice. See `wsld_loss`."""
    target = targets(teacher.logits, batch.labels)  # (B,)
    return wsld_loss(student.logits, teacher.logits, target, temperature)
