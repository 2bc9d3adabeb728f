"""The teacher's maps as hints: the student's own, led through a regressor, are to be equal to them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdal_cli.losses._maps import pairs, same_size
from kdal_cli.types import Batch, Examples, Output, Places


def fitnet_loss(hinted: Tensor, teacher_maps: Tensor) -> Tensor:
    """Mean over channels and places of (r(F_s) − F_t)², (B, c, h, w) x 2 -> (B,).

    Romero et al. 2015, arXiv:1412.6550, eq. 3, with the mean of the CRD benchmark in place of half the sum.
    """
    return (hinted - teacher_maps).square().mean((1, 2, 3))


class Fitnet(nn.Module):
    """Hints of FitNets, summed over the layers -> (B,). See `fitnet_loss`.

    Romero et al. 2015, arXiv:1412.6550. The regressor r is a 1×1 convolution from the student's channels to the
    teacher's, batch norm and ReLU, so it can only meet maps that are not negative. It is trained with the student and
    never ships. Maps of unequal size are averaged down to the smaller one first, of any two sizes; the paper's and the
    benchmark's regressors use the size of their kernel for that. Between maps of equal size ours is the benchmark's.

    student, teacher: outputs of any one batch, for the channels. layers, teacher_layers: module paths, one pair a hint.
    """

    def __init__(
        self,
        student: Output,
        teacher: Output,
        examples: Examples,
        *,
        layers: Places = "middle",
        teacher_layers: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.layers, self.teacher_layers = layers, teacher_layers
        widths = [(s.shape[1], t.shape[1]) for s, t in pairs(student, teacher, layers, teacher_layers)]
        self.regressors = nn.ModuleList(
            nn.Sequential(nn.Conv2d(narrow, wide, 1), nn.BatchNorm2d(wide), nn.ReLU()) for narrow, wide in widths
        )

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        maps = pairs(student, teacher, self.layers, self.teacher_layers)
        sized = [same_size(ours, theirs) for ours, theirs in maps]
        hints = zip(sized, self.regressors, strict=True)
        return torch.stack([fitnet_loss(regress(ours), theirs) for (ours, theirs), regress in hints]).sum(0)
