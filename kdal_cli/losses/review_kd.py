"""The teacher's stages, each reviewed by the student's own stage and all those above it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.losses._maps import pairs, pooled
from kdal_cli.types import Batch, Examples, Output, Places
from kdal_cli.values import Count

PYRAMID = (4, 2, 1)
"""Sides to which maps are pooled, beside their own size."""


def hierarchical_context_loss(ours: Tensor, theirs: Tensor) -> Tensor:
    """Mean square of ours − theirs at several sizes, weighted, (B, c, h, w) x 2 -> (B,).

    The maps as they are count 1; pooled to 4 × 4, 2 × 2 and 1 × 1, as far as that is smaller, they count ½, ¼, ⅛, the
    first that there is ½; over the sum of these weights. Chen et al. 2021, arXiv:2104.09044, section 3.4, with the
    weights of the authors' code.
    """
    total, weight, weights = (ours - theirs).square().mean((1, 2, 3)), 1.0, 1.0
    for side in PYRAMID:
        if side < min(ours.shape[2:]):
            weight, weights = weight / 2, weights + weight / 2
            apart = pooled(ours, side, side) - pooled(theirs, side, side)  # (B, c, side, side)
            total = total + weight * apart.square().mean((1, 2, 3))
    return total / weights


class ReviewKd(nn.Module):
    """Knowledge review, the hierarchical context loss summed over stages and features -> (B,).

    Chen et al. 2021, arXiv:2104.09044. From the top down: the features (B, D, 1, 1) first, then the last stage, each is
    fused with what came out above it, see `Fusion`, and compared with the teacher's. All of that is trained with the
    student and never ships. The authors compare the teacher's maps before their last ReLU; here it is the `layers` that
    say which. Maps of unequal size are enlarged or thinned out to the teacher's by nearest neighbour, as in their code.

    student, teacher: outputs of any one batch, for the channels. width: the most channels that a fusion has.
    layers, teacher_layers: module paths from the first stage to the last.
    """

    def __init__(
        self,
        student: Output,
        teacher: Output,
        examples: Examples,
        *,
        layers: Places = "stages",
        teacher_layers: Sequence[str] | None = None,
        width: Count = 512,
    ) -> None:
        super().__init__()
        self.layers, self.teacher_layers = layers, teacher_layers
        levels, middle = self.levels(student, teacher), min(width, student.features.shape[1])
        widths = [(s.shape[1], t.shape[1]) for s, t in levels]
        self.fusions = nn.ModuleList(Fusion(s, middle, t, top=i == 0) for i, (s, t) in enumerate(widths))

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        total, above = student.logits.new_zeros(len(student.logits)), None
        for (ours, theirs), fusion in zip(self.levels(student, teacher), self.fusions, strict=True):
            out, above = fusion(ours, above, theirs.shape[2:])
            total = total + hierarchical_context_loss(out, theirs)
        return total

    def levels(self, student: Output, teacher: Output) -> list[tuple[Tensor, Tensor]]:
        """What is compared, from the top down: features as maps of one pixel, then the stages."""
        features = (student.features[:, :, None, None], teacher.features[:, :, None, None])
        return [features, *reversed(pairs(student, teacher, self.layers, self.teacher_layers))]


class Fusion(nn.Module):
    """x ← bn(conv1×1(x)); below the top x ← a_0 · x + a_1 · above; out ← bn(conv3×3(x)).

    a = sigmoid(conv1×1([x, above])) is two numbers for each place, (B, 2, h, w).
    """

    def __init__(self, inputs: int, middle: int, outputs: int, *, top: bool) -> None:
        super().__init__()
        self.narrow = nn.Sequential(nn.Conv2d(inputs, middle, 1, bias=False), nn.BatchNorm2d(middle))
        self.attention = None if top else nn.Conv2d(2 * middle, 2, 1)
        self.widen = nn.Sequential(nn.Conv2d(middle, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
        for conv in (self.narrow[0], self.widen[0]):
            nn.init.kaiming_uniform_(conv.weight, a=1)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor, above: Tensor | None, size: torch.Size) -> tuple[Tensor, Tensor]:
        """(out (B, outputs, *size), the fused map (B, middle, *size) for the level below)."""
        x = self.narrow(x)  # (B, middle, h, w)
        if self.attention is not None and above is not None:
            above = resized(above, x.shape[2:])
            own, higher = self.attention(torch.cat([x, above], 1)).sigmoid().split(1, 1)  # (B, 1, h, w) x 2
            x = own * x + higher * above
        x = resized(x, size)
        return self.widen(x), x


def resized(x: Tensor, size: torch.Size) -> Tensor:
    """(B, c, h, w) -> (B, c, *size) by nearest neighbour."""
    return x if x.shape[2:] == size else F.interpolate(x, size)
