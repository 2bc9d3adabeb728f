"""The teacher's softened answers, for a student that is not softened."""

from torch import Tensor

from kdal_cli.losses._softmax import kl, log_softened
from kdal_cli.types import Batch, Output
from kdal_cli.values import Positive


def ttm_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """KL(softmax(z_t/T) ‖ softmax(z_s)), nats, (B, C) x 2 -> (B,). Zheng and Yang 2024, arXiv:2402.11148.

    softmax(z_t/T) is the teacher's p^γ / Σ p^γ with γ = 1/T, the power transform of the paper. There is no T² and the
    student has no temperature, so ∂/∂z_s = q_s − q_t does not shrink as T grows. Zero where z_s is z_t/T up to a
    constant, not where student equals teacher.
    """
    return kl(log_softened(teacher_logits, temperature), log_softened(student_logits, 1.0))


def ttm(student: Output, teacher: Output, batch: Batch, *, temperature: Positive = 10.0) -> Tensor:
    """Transformed teacher matching, (B,). See `ttm_loss`."""
    return ttm_loss(student.logits, teacher.logits, temperature)
