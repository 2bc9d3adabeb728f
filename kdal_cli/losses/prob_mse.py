"""The teacher's probabilities, by regression."""

from torch import Tensor

from kdal_cli.losses._softmax import log_softened
from kdal_cli.types import Batch, Output
from kdal_cli.values import Positive


def prob_mse_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """1/C · Σ_c (q_s − q_t)², q = softmax(z/T), (B, C) x 2 -> (B,). Tarvainen and Valpola 2017, arXiv:1703.01780.

    The mean over the classes is that of their code. From 0 to 2/C, and there is no T²: a high temperature or many
    classes want a large weight.
    """
    student = log_softened(student_logits, temperature).exp()  # (B, C)
    teacher = log_softened(teacher_logits, temperature).exp()  # (B, C)
    return (student - teacher).square().mean(1)


def prob_mse(student: Output, teacher: Output, batch: Batch, *, temperature: Positive = 1.0) -> Tensor:
    """Mean squared difference of softened probabilities, (B,). See `prob_mse_loss`."""
    return prob_mse_loss(student.logits, teacher.logits, temperature)
