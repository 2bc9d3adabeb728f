"""The teacher's softened answers, by Jensen-Shannon divergence: bounded, and the same from either side."""

import math

import torch
from torch import Tensor

from kdal_cli.losses._softmax import kl, log_softened
from kdal_cli.types import Batch, Output
from kdal_cli.values import Positive


def js_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T² · ½ [KL(q_s ‖ m) + KL(q_t ‖ m)], m = ½ (q_s + q_t), q = softmax(z/T), nats, (B, C) x 2 -> (B,).

    Lin 1991; for distillation Agarwal et al. 2023, arXiv:2306.13649, at β = ½. From 0 to T² log 2.
    """
    log_student = log_softened(student_logits, temperature)  # (B, C)
    log_teacher = log_softened(teacher_logits, temperature)  # (B, C)
    log_middle = torch.logaddexp(log_student, log_teacher) - math.log(2)  # (B, C)
    return temperature**2 * 0.5 * (kl(log_student, log_middle) + kl(log_teacher, log_middle))


def js(student: Output, teacher: Output, batch: Batch, *, temperature: Positive = 4.0) -> Tensor:
    """Soft labels by Jensen-Shannon divergence, (B,). See `js_loss`."""
    return js_loss(student.logits, teacher.logits, temperature)
