"""The teacher's softened answers, at a temperature that is learned against the student."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.losses._softmax import kl
from kdal_cli.types import Batch, Examples, Output
from kdal_cli.values import NonNegative, Positive


def reversed_gradient(x: Tensor, strength: float) -> Tensor:
    """x, bit for bit, of any shape; the gradient that comes back to it is multiplied by −strength."""
    fixed = x.detach()
    return fixed + strength * (fixed - x)


def ctkd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: Tensor) -> Tensor:
    """T² · KL(softmax(z_t/T) ‖ softmax(z_s/T)), nats, (B, C) x 2 and a T of shape () -> (B,).

    `kd_loss` of a T with a gradient, which comes through both softmaxes and through T², as in the authors' code.
    """
    log_student = F.log_softmax(student_logits / temperature, dim=1)  # (B, C)
    log_teacher = F.log_softmax(teacher_logits / temperature, dim=1)  # (B, C)
    return temperature**2 * kl(log_teacher, log_student)


class Ctkd(nn.Module):
    """Curriculum temperature, one for all images: soft labels at T = t_start + t_range · sigmoid(θ), nats -> (B,).

    Li et al. 2023, arXiv:2211.16231, the global version. The student descends the loss and θ, one number, ascends it:
    its gradient is multiplied by −strength, λ in the paper, which grows from 0 to 1 and so makes the task harder bit by
    bit. The student's own gradient is that of `kd` at this T. θ starts at 1, as in the authors' code: T = 15.62.

    t_start: what T stays above. t_range: how far above it T can get; the authors' option for it is called t_end, yet
    20 there means a T of at most 21. strength: λ, which may be scheduled.
    """

    def __init__(
        self,
        student: Output,
        teacher: Output,
        examples: Examples,
        *,
        t_start: Positive = 1.0,
        t_range: NonNegative = 20.0,
    ) -> None:
        super().__init__()
        self.t_start, self.t_range = t_start, t_range
        self.theta = nn.Parameter(torch.ones(()))

    def temperature(self, strength: float = 0.0) -> Tensor:
        """T now, (), whose gradient reaches θ times −strength."""
        return self.t_start + self.t_range * reversed_gradient(self.theta, strength).sigmoid()

    def learned(self) -> dict[str, float]:
        """T now, for the log."""
        return {"temperature": float(self.temperature().detach())}

    def forward(self, student: Output, teacher: Output, batch: Batch, *, strength: NonNegative = 1.0) -> Tensor:
        return ctkd_loss(student.logits, teacher.logits, self.temperature(strength))
