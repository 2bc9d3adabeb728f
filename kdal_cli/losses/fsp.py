"""What happens between two stages: which channels of the one answer where which channels of the next do."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.errors import UserError
from kdal_cli.losses._maps import pairs
from kdal_cli.types import Batch, Examples, Output, Places


def flow(lower: Tensor, upper: Tensor) -> Tensor:
    """Mean over places of lower_i · upper_j, (B, m, h, w) and (B, n, h', w') -> (B, m, n).

    The larger map is pooled to the smaller, by the maximum as in the paper; the CRD benchmark averages.
    """
    size = (min(lower.shape[2], upper.shape[2]), min(lower.shape[3], upper.shape[3]))
    lower, upper = (x if x.shape[2:] == size else F.adaptive_max_pool2d(x, size) for x in (lower, upper))
    return lower.flatten(2) @ upper.flatten(2).transpose(1, 2) / (size[0] * size[1])


def fsp_loss(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """Mean over i, j of (G_s − G_t)², summed over consecutive pairs of maps -> (B,). G is `flow`.

    Yim et al. 2017 (CVPR), eq. 1 and 2, with the mean of the CRD benchmark in place of the sum over i and j. The
    channels of the two sides must agree, map by map; their sizes need not.
    """
    flows = zip(pairwise(student_maps), pairwise(teacher_maps), strict=True)
    return torch.stack([(flow(*ours) - flow(*theirs)).square().mean((1, 2)) for ours, theirs in flows]).sum(0)


class Fsp(nn.Module):
    """Flow of solution procedure, between consecutive layers -> (B,). See `fsp_loss`.

    Yim et al. 2017, "A gift from knowledge distillation" (CVPR). The paper has students with the channels of their
    teacher; where the channels differ, a 1×1 convolution takes the student's to the teacher's. It is trained with the
    student and never ships.

    student, teacher: outputs of any one batch, for the channels. layers, teacher_layers: module paths in the order of
    the network, with the stem as in the CRD benchmark: three flows of three stages. Raises UserError for fewer than
    two.
    """

    def __init__(
        self,
        student: Output,
        teacher: Output,
        examples: Examples,
        *,
        layers: Places = "all",
        teacher_layers: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.layers, self.teacher_layers = layers, teacher_layers
        widths = [(s.shape[1], t.shape[1]) for s, t in pairs(student, teacher, layers, teacher_layers)]
        if len(widths) < 2:
            raise UserError(f"layers={list(layers)}: fsp is about what is between two", cure="two paths or more")
        self.adapters = nn.ModuleList(
            nn.Identity() if ours == theirs else nn.Conv2d(ours, theirs, 1, bias=False) for ours, theirs in widths
        )

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        ours, theirs = zip(*pairs(student, teacher, self.layers, self.teacher_layers), strict=True)
        return fsp_loss([adapt(x) for adapt, x in zip(self.adapters, ours, strict=True)], theirs)
