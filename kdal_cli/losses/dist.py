"""Relations rather than values: how the probabilities of an image, and of a class, go up and down together."""

import torch
from torch import Tensor

from kdal_cli.losses._softmax import log_softened
from kdal_cli.types import Batch, Output
from kdal_cli.values import NonNegative, Positive

FLAT = 1e-6
"""A row that deviates by no more than this share of its largest entry (root mean square) does not vary: what is left
is the rounding of float32."""


def deviations(log_y: Tensor) -> Tensor:
    """exp(log y) minus its mean, scaled to length 1, by row, (R, N) -> (R, N). All zero where a row does not vary.

    From logarithms, so that a row of very small numbers is as good as any other.
    """
    y = (log_y - log_y.amax(1, keepdim=True).detach()).exp()  # the largest of a row is 1: no scale matters here
    apart = y - y.mean(1, keepdim=True)
    square = apart.square().sum(1, keepdim=True)  # (R, 1)
    varies = square > FLAT**2 * y.shape[1]
    # The root has no gradient at 0: it is taken of 1 there and masked after.
    return torch.where(varies, apart / torch.where(varies, square, 1.0).sqrt(), 0.0)


def unrelated(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    """1 − r, r Pearson's correlation of a row of exp(log_student) with that of exp(log_teacher), (R, N) x 2 -> (R,).

    As ½ |a − b|² of deviations a and b of length 1, which is exactly 0 at equality. Where one of the two does not vary
    r is taken as 0, and where neither does as 1; both without gradient.
    """
    ours, theirs = deviations(log_student), deviations(log_teacher)  # (R, N)
    one_alone = ours.any(1) ^ theirs.any(1)  # (R,)
    return torch.where(one_alone, 1.0, 0.5 * (ours - theirs).square().sum(1))


def dist_loss(student_logits: Tensor, teacher_logits: Tensor, beta: float, gamma: float, temperature: float) -> Tensor:
    """T² · [β · (1 − r_b) + γ · mean_c (1 − r_c)], (B, C) x 2 -> (B,). Huang et al. 2022, arXiv:2205.10536.

    With y = softmax(z/T), r_b is Pearson's correlation between y_s and y_t of image b over the classes (inter-class),
    and r_c that of class c over the batch (intra-class); the latter belongs to the batch and is the same for each
    image. T² is the authors' code's. Their 1e-8 in the denominator of r is left out: it puts a loss of 1 on equal rows
    that do not vary, and breaks the invariance under y → a·y + b, a > 0, of rows that vary little.
    """
    log_student = log_softened(student_logits, temperature)  # (B, C)
    log_teacher = log_softened(teacher_logits, temperature)  # (B, C)
    inter = unrelated(log_student, log_teacher)  # (B,)
    intra = unrelated(log_student.T, log_teacher.T).mean()  # ()
    return temperature**2 * (beta * inter + gamma * intra)


def dist(
    student: Output,
    teacher: Output,
    batch: Batch,
    *,
    beta: NonNegative = 1.0,
    gamma: NonNegative = 1.0,
    temperature: Positive = 4.0,
) -> Tensor:
    """Distillation from a stronger teacher, (B,). See `dist_loss`."""
    return dist_loss(student.logits, teacher.logits, beta, gamma, temperature)
