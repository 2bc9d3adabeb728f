"""What the teacher knows, without what contradicts the label: how sure it is, and how the lesser classes relate."""

import torch
from torch import Tensor

from kdal_cli.losses._softmax import kl, log_softened, one_against_rest
from kdal_cli.losses._targets import targets
from kdal_cli.types import Batch, Output
from kdal_cli.values import NonNegative, Positive


def confidence_loss(student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """T² · KL([q_t,m, 1 − q_t,m] ‖ [q_s,y, 1 − q_s,y]), m = argmax z_t, nats, (B, C) x 2 and y (B,) -> (B,).

    Sample confidence distillation: the student is to be as sure of the label as the teacher is of its first choice,
    whether or not that choice is the label. Zero at equality only where it is.
    """
    log_teacher = one_against_rest(teacher_logits, teacher_logits.argmax(1), temperature)  # (B, 2)
    return temperature**2 * kl(log_teacher, one_against_rest(student_logits, target, temperature))


def correlation_loss(student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """T² · KL(q_t ‖ q_s), q = softmax(z/T) among the classes with z_t < z_t,y alone, nats, (B, C) x 2, (B,) -> (B,).

    Masked correlation distillation: the label and every class that the teacher ranks as high or higher are left out on
    both sides. Zero, with a gradient of zero, where fewer than two classes are left.
    """
    masked = teacher_logits >= teacher_logits.gather(1, target[:, None])  # (B, C)
    # The lowest finite number is a probability of exactly 0; -inf would make 0 · (inf − inf) of it.
    lowest = torch.finfo(student_logits.dtype).min
    log_student = log_softened((student_logits / temperature).masked_fill(masked, lowest), 1.0)  # (B, C)
    log_teacher = log_softened((teacher_logits / temperature).masked_fill(masked, lowest), 1.0)  # (B, C)
    return temperature**2 * kl(log_teacher, log_student)


def rld(
    student: Output,
    teacher: Output,
    batch: Batch,
    *,
    temperature: Positive = 4.0,
    confidence_temperature: Positive = 1.0,
    confidence_weight: NonNegative = 1.0,
    correlation_weight: NonNegative = 8.0,
) -> Tensor:
    """Refined logit distillation: the weighted sum of `confidence_loss` and `correlation_loss`, (B,).

    Sun et al. 2024, arXiv:2408.07703, with the authors' code's defaults and its two temperatures. y of an image without
    label is the teacher's first choice: there it is DKD (arXiv:2203.08679), but for the temperature of the first part.
    """
    target = targets(teacher.logits, batch.labels)  # (B,)
    confidence = confidence_loss(student.logits, teacher.logits, target, confidence_temperature)
    correlation = correlation_loss(student.logits, teacher.logits, target, temperature)
    return confidence_weight * confidence + correlation_weight * correlation
