"""Soft labels in two parts: how sure the teacher is of the label, and how the other classes relate."""

import torch
from torch import Tensor

from kdal_cli.losses._softmax import kl, log_softened, one_against_rest
from kdal_cli.losses._targets import targets
from kdal_cli.types import Batch, Output
from kdal_cli.values import NonNegative, Positive


def others(logits: Tensor, target: Tensor) -> Tensor:
    """The logits of all classes but the target, in their order, (B, C) and (B,) -> (B, C - 1)."""
    place = torch.arange(logits.shape[1] - 1, device=logits.device)  # (C - 1,)
    return logits.gather(1, place + (place >= target[:, None]))


def target_loss(student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """TCKD = T² · KL([q_t,y, 1 − q_t,y] ‖ [q_s,y, 1 − q_s,y]), q = softmax(z/T), nats, (B, C) x 2, y (B,) -> (B,)."""
    log_student = one_against_rest(student_logits, target, temperature)  # (B, 2)
    log_teacher = one_against_rest(teacher_logits, target, temperature)  # (B, 2)
    return temperature**2 * kl(log_teacher, log_student)


def others_loss(student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """NCKD = T² · KL(q_t ‖ q_s), q = softmax(z/T) over the C − 1 classes c ≠ y, nats, (B, C) x 2, y (B,) -> (B,).

    With two classes there is only one other, and it is 0.
    """
    log_student = log_softened(others(student_logits, target), temperature)  # (B, C - 1)
    log_teacher = log_softened(others(teacher_logits, target), temperature)  # (B, C - 1)
    return temperature**2 * kl(log_teacher, log_student)


def dkd_loss(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, alpha: float, beta: float, temperature: float
) -> Tensor:
    """α · TCKD + β · NCKD, nats, (B, C) x 2 and y (B,) -> (B,). Zhao et al. 2022, arXiv:2203.08679.

    With α = 1 and β = 1 − q_t,y it is `kd`. Computed from log-probabilities, where the authors' code takes the
    log of a probability that may be 0, and leaves y out, where theirs subtracts 1000 from z_y/T.
    """
    target_part = target_loss(student_logits, teacher_logits, target, temperature)  # (B,)
    return alpha * target_part + beta * others_loss(student_logits, teacher_logits, target, temperature)


def dkd(
    student: Output,
    teacher: Output,
    batch: Batch,
    *,
    alpha: NonNegative = 1.0,
    beta: NonNegative = 8.0,
    temperature: Positive = 4.0,
) -> Tensor:
    """Decoupled knowledge distillation, (B,). See `dkd_loss`.

    y of an image without label is the teacher's first choice.
    """
    target = targets(teacher.logits, batch.labels)  # (B,)
    return dkd_loss(student.logits, teacher.logits, target, alpha, beta, temperature)
