"""The teacher's softened answers, by Kullback-Leibler divergence."""

from torch import Tensor

from kdal_cli.losses._softmax import kl, log_softened
from kdal_cli.types import Batch, Output
from kdal_cli.values import Positive


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T² · KL(softmax(z_t/T) ‖ softmax(z_s/T)), nats, (B, C) x 2 -> (B,). Hinton et al. 2015, arXiv:1503.02531.

    T² keeps the gradient's size as T grows: ∂/∂z_s = T (q_s − q_t).
    """
    log_student = log_softened(student_logits, temperature)  # (B, C)
    log_teacher = log_softened(teacher_logits, temperature)  # (B, C)
    return temperature**2 * kl(log_teacher, log_student)


def kd(student: Output, teacher: Output, batch: Batch, *, temperature: Positive = 4.0) -> Tensor:
    """Soft labels by KL divergence, (B,). See `kd_loss`."""
    return kd_loss(student.logits, teacher.logits, temperature)
