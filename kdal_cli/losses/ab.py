"""On which side of zero each of the teacher's neurons is."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.losses._maps import pairs, same_size
from kdal_cli.types import Batch, Examples, Output, Places
from kdal_cli.values import Positive

SCALE = 3 / 1000
"""Of the authors' code, against the number of neurons that the loss is summed over."""


def ab_loss(connected: Tensor, teacher_maps: Tensor, margin: float) -> Tensor:
    """Σ over neurons of max(0, μ − s)² where the teacher is active, t > 0, and of max(0, μ + s)² elsewhere.

    (B, c, h, w) x 2 -> (B,). Heo et al. 2019, arXiv:1811.03233. Nothing of the teacher counts but the sign.
    """
    short = F.relu(margin - connected) * (teacher_maps > 0) + F.relu(margin + connected) * (teacher_maps <= 0)
    return short.square().sum((1, 2, 3))


class Ab(nn.Module):
    """Activation boundaries, 3/1000 · Σ_i 2^(i − n) of `ab_loss`, over the layers i = 1 … n -> (B,).

    Heo et al. 2019, arXiv:1811.03233, with the weights of the authors' code: 1 for the last layer, half of it for each
    one below. A connector, 1×1 convolution and batch norm, takes the student's maps to the teacher's neurons; it is
    trained with the student and never ships. The paper's maps are those before the ReLU. Behind it the teacher's have
    the same t > 0, and the student's have a connector with two signs; for that reason there is one between equal
    channels too, where the authors have none. A stage that is a sum before batch norm, as in a wrn, is compared by the
    sign of that sum. Maps of unequal size are averaged down to the smaller one first.

    student, teacher: outputs of any one batch, for the channels. layers, teacher_layers: module paths from the first
    stage to the last. margin: μ, how far from zero a neuron of the student has to be, above it.
    """

    def __init__(
        self,
        student: Output,
        teacher: Output,
        examples: Examples,
        *,
        layers: Places = "stages",
        teacher_layers: Sequence[str] | None = None,
        margin: Positive = 1.0,
    ) -> None:
        super().__init__()
        self.layers, self.teacher_layers, self.margin = layers, teacher_layers, margin
        widths = [(s.shape[1], t.shape[1]) for s, t in pairs(student, teacher, layers, teacher_layers)]
        self.connectors = nn.ModuleList(_connector(narrow, wide) for narrow, wide in widths)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        total = student.logits.new_zeros(len(student.logits))  # (B,)
        maps = pairs(student, teacher, self.layers, self.teacher_layers)
        for (ours, theirs), connect in zip(maps, self.connectors, strict=True):
            ours, theirs = same_size(ours, theirs)
            total = total / 2 + SCALE * ab_loss(connect(ours), theirs, self.margin)
        return total


def _connector(narrow: int, wide: int) -> nn.Sequential:
    """Weights from N(0, 2 / channels out), as the authors draw them."""
    conv = nn.Conv2d(narrow, wide, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(wide))
