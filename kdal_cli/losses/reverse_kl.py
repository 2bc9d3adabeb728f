"""The teacher's softened answers, by the divergence the other way round: the student stays where the teacher is."""

from torch import Tensor

from kdal_cli.losses._softmax import kl, log_softened
from kdal_cli.types import Batch, Output
from kdal_cli.values import Positive


def reverse_kl_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T² · KL(softmax(z_s/T) ‖ softmax(z_t/T)), nats, (B, C) x 2 -> (B,). As in Gu et al. 2023, arXiv:2306.08543.

    `kd` with its sides exchanged: dear where the student answers what the teacher excludes, cheap where it leaves out
    some of what the teacher allows. ∂/∂z_s = T q_s (log(q_s/q_t) − KL).
    """
    log_student = log_softened(student_logits, temperature)  # (B, C)
    log_teacher = log_softened(teacher_logits, temperature)  # (B, C)
    return temperature**2 * kl(log_student, log_teacher)


def reverse_kl(student: Output, teacher: Output, batch: Batch, *, temperature: Positive = 4.0) -> Tensor:
    """Soft labels by reverse KL divergence, (B,). See `reverse_kl_loss`."""
    return reverse_kl_loss(student.logits, teacher.logits, temperature)
