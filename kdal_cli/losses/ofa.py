"""The teacher's answers for every stage of the student, each with a small classifier of its own."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.losses._softmax import log_softened
from kdal_cli.losses._targets import targets
from kdal_cli.types import Batch, Examples, Output, Places
from kdal_cli.values import Positive


def enhanced(teacher_logits: Tensor, target: Tensor, gamma: float, temperature: float) -> Tensor:
    """(1 + q_y)^γ − 1 for the label y and q_c^γ for every other class c, q = softmax(z/T), (B, C), (B,) -> (B, C).

    Adaptive target enhancement: with γ > 1 the label grows and the rest shrinks, the more the surer the teacher. q at
    γ = 1. The 1 that is taken away is the one-hot label, which cross-entropy has already: so the authors' code.
    """
    log_q = log_softened(teacher_logits, temperature)  # (B, C)
    of_label = torch.expm1(gamma * torch.log1p(log_q.exp()))  # (B, C)
    return torch.where(F.one_hot(target, log_q.shape[1]) == 1, of_label, torch.exp(gamma * log_q))


def ofa_loss(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, gamma: float, temperature: float
) -> Tensor:
    """−Σ_c enhanced_c · log softmax(z_s/T)_c, nats, no T², (B, C) x 2 and y (B,) -> (B,).

    Hao et al. 2023, arXiv:2310.19444, as in the authors' code. A cross-entropy: not zero when student equals teacher.
    """
    log_student = log_softened(student_logits, temperature)  # (B, C)
    return -(enhanced(teacher_logits, target, gamma, temperature) * log_student).sum(1)


class Ofa(nn.Module):
    """One for all: `ofa_loss` of the student's logits and of those of a branch for each of its maps, summed -> (B,).

    Hao et al. 2023, arXiv:2310.19444. A branch halves its map as often as there are layers after it, is averaged over
    places and ends in as many logits as the teacher has. Nothing of the teacher's but its logits is compared. Branches
    train with the student and never ship. y of an image without label is the teacher's first choice.

    student, teacher: outputs of any one batch, from which the widths are read. layers: module paths of the student, in
    order. gamma: γ of the enhancement.
    """

    def __init__(
        self,
        student: Output,
        teacher: Output,
        examples: Examples,
        *,
        layers: Places = "stages",
        gamma: Positive = 1.5,
        temperature: Positive = 1.0,
    ) -> None:
        super().__init__()
        self.layers, self.gamma, self.temperature = layers, gamma, temperature
        width = max(student.features.shape[1], teacher.features.shape[1])
        classes = teacher.logits.shape[1]
        self.branches = nn.ModuleList(
            _branch(student.maps[path].shape[1], len(layers) - 1 - i, width, classes) for i, path in enumerate(layers)
        )

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        target = targets(teacher.logits, batch.labels)  # (B,)
        answers = [branch(student.maps[path]) for path, branch in zip(self.layers, self.branches, strict=True)]
        losses = [
            ofa_loss(answer, teacher.logits, target, self.gamma, self.temperature)
            for answer in (*answers, student.logits)
        ]
        return torch.stack(losses).sum(0)


def _branch(channels: int, halvings: int, width: int, classes: int) -> nn.Sequential:
    """(B, channels, h, w) -> (B, classes), with the authors' initial weights."""
    body: list[nn.Module] = [] if halvings else [nn.Conv2d(channels, width, 1)]
    for left in range(halvings, 0, -1):
        wider = 2 * channels if left > 1 else width
        body += [*_separable(channels, channels, stride=2), *_separable(channels, wider, stride=1)]
        channels = wider
    branch = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))
    for module in branch:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return branch


def _separable(narrow: int, wide: int, stride: int) -> list[nn.Module]:
    """Each channel by itself over places, then across channels, (B, narrow, h, w) -> (B, wide, h/stride, w/stride)."""
    each = nn.Conv2d(narrow, narrow, 3, stride, padding=1, groups=narrow, bias=False)
    return [each, nn.Conv2d(narrow, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
