"""The teacher's softened answers, for a student that is not softened, more of them where the teacher is less sure."""

from torch import Tensor

from kdal_cli.losses._softmax import log_softened
from kdal_cli.losses.ttm import ttm_loss
from kdal_cli.types import Batch, Output
from kdal_cli.values import Positive


def power_sum(logits: Tensor, temperature: float) -> Tensor:
    """Σ_c p_c^γ with p = softmax(z) and γ = 1/T, (B, C) -> (B,).

    For T > 1 from 1, of a certain answer, to C^(1 − γ), of an even one. Its log is 1 − γ times the Rényi entropy H_γ.
    """
    return (log_softened(logits, 1.0) / temperature).logsumexp(1).exp()


def wttm_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Σ_c p_t,c^(1/T) · KL(softmax(z_t/T) ‖ softmax(z_s)), p_t = softmax(z_t), nats, (B, C) x 2 -> (B,).

    Zheng and Yang 2024, arXiv:2402.11148: `ttm_loss` weighed by how smooth the teacher's answer is.
    """
    return power_sum(teacher_logits, temperature) * ttm_loss(student_logits, teacher_logits, temperature)


def wttm(student: Output, teacher: Output, batch: Batch, *, temperature: Positive = 5.0) -> Tensor:
    """Weighted transformed teacher matching, (B,). See `wttm_loss`."""
    return wttm_loss(student.logits, teacher.logits, temperature)
