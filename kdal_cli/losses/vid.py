"""The teacher's maps, as a Gaussian that the student predicts: mean from its own maps, variance learned."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.errors import UserError
from kdal_cli.losses._maps import pairs, same_size
from kdal_cli.types import Batch, Examples, Output, Places
from kdal_cli.values import Positive

SMALLEST_VARIANCE = 1e-5


class Vid(nn.Module):
    """Variational information distillation, ½ [(μ(F_s) − F_t)² / σ² + log σ²], mean over channels and places -> (B,).

    Ahn et al. 2019, arXiv:1904.05835. σ²_c = softplus(ρ_c) + 1e-5 is one variance a channel of the teacher; μ is three
    1×1 convolutions. Both are trained with the student and never ship with it. Maps of unequal size are averaged down
    to the smaller one before μ, as in the CRD benchmark. Unlike a distance it can be negative: a log-density is not
    bounded by zero.

    student, teacher: outputs of any one batch, from which the channels are read. layers, teacher_layers: module paths,
    one pair per term of the sum; `teacher_layers` defaults to `layers`.
    """

    def __init__(
        self,
        student: Output,
        teacher: Output,
        examples: Examples,
        *,
        layers: Places = "stages",
        teacher_layers: Sequence[str] | None = None,
        initial_variance: Positive = 5.0,
    ) -> None:
        super().__init__()
        if initial_variance <= SMALLEST_VARIANCE:
            raise UserError(f"initial_variance={initial_variance:g}", cure=f"accepted: above {SMALLEST_VARIANCE:g}")
        self.layers, self.teacher_layers = layers, teacher_layers
        widths = [(s.shape[1], t.shape[1]) for s, t in pairs(student, teacher, layers, teacher_layers)]
        self.means = nn.ModuleList(_regressor(narrow, wide) for narrow, wide in widths)
        wanted = initial_variance - SMALLEST_VARIANCE
        rho = wanted + math.log(-math.expm1(-wanted))  # the inverse of softplus
        self.rhos = nn.ParameterList(torch.full((wide,), rho) for _, wide in widths)

    def learned(self) -> dict[str, float]:
        """The mean variance now, for the log: one that stays where it started does not learn."""
        variances = [F.softplus(rho) + SMALLEST_VARIANCE for rho in self.rhos]
        return {"variance": float(torch.cat(variances).mean().detach())}

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        total = student.logits.new_zeros(len(student.logits))  # (B,)
        maps = pairs(student, teacher, self.layers, self.teacher_layers)
        for (ours, theirs), mean, rho in zip(maps, self.means, self.rhos, strict=True):
            ours, theirs = same_size(ours, theirs)  # (B, c_s, h, w), (B, c, h, w)
            variance = F.softplus(rho)[:, None, None] + SMALLEST_VARIANCE  # (c, 1, 1)
            total = total + 0.5 * ((mean(ours) - theirs).square() / variance + variance.log()).mean((1, 2, 3))
        return total


def _regressor(narrow: int, wide: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(narrow, wide, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(wide, wide, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(wide, wide, 1, bias=False),
    )
