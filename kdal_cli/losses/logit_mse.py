"""The teacher's logits themselves, by regression."""

from torch import Tensor

from kdal_cli.types import Batch, Output


def logit_mse_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """1/C · Σ_c (z_s − z_t)², (B, C) x 2 -> (B,). Ba and Caruana 2014, arXiv:1312.6184.

    They sum over the classes; the mean does not grow with C. Unlike a softmax it sees a constant added to every logit;
    where both sides have mean 0, 2 · `kd` comes to this as T grows.
    """
    return (student_logits - teacher_logits).square().mean(1)


def logit_mse(student: Output, teacher: Output, batch: Batch) -> Tensor:
    """Mean squared difference of the logits, (B,). See `logit_mse_loss`."""
    return logit_mse_loss(student.logits, teacher.logits)
