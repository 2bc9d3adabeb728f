"""ShuffleNet for small images, as the distillation literature uses it (Zhang et al. 2017, arXiv:1707.01083).

Against the paper: a 1 × 1 stem without pooling. Parameters carry the names of RepDistiller and mdistiller, so their
checkpoints load. Stages: layer1, layer2, layer3.
"""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.models._blocks import GlobalAveragePool, chain, conv1x1, conv3x3, stage, staged

STEM = 24
WIDTH = {1: 144, 2: 200, 3: 240}
"""Groups -> channels of the first stage, for about the same cost (the paper's table 1)."""


def shufflenet_v1(shape: Shape, *, groups: Literal[1, 2, 3] = 3) -> nn.Module:
    """Three stages of 4, 8 and 4 units whose 1 × 1 convolutions see one of `groups` groups of channels each.

    Map sizes 1/2, 1/4, 1/8 of the image; D = 960 features with 3 groups.
    """
    if groups not in WIDTH:
        raise UserError(f"no ShuffleNet here has {groups} groups", where="groups", cure="use 1, 2 or 3")
    width = WIDTH[groups]
    unit = partial(ShuffleUnit, groups=groups)
    net = chain(
        conv1=conv1x1(shape.channels, STEM),
        bn1=nn.BatchNorm2d(STEM),
        relu=nn.ReLU(),
        layer1=stage(unit, STEM, width, 4, stride=2),
        layer2=stage(unit, width, 2 * width, 8, stride=2),
        layer3=stage(unit, 2 * width, 4 * width, 4, stride=2),
        pool=GlobalAveragePool(),
        linear=nn.Linear(4 * width, shape.classes),
    )
    return staged(net, "layer1", "layer2", "layer3", stem="relu")


class ShuffleUnit(nn.Module):
    """Grouped 1 × 1, shuffle, 3 × 3 depthwise, grouped 1 × 1; added to x, or, with stride 2, beside a pooled x."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, groups: int) -> None:
        super().__init__()
        self.strided = stride == 2
        outputs -= inputs if self.strided else 0  # the pooled x brings the others
        middle = outputs // 4
        first = 1 if inputs == STEM else groups  # the stem has too few channels to be split
        self.conv1 = conv1x1(inputs, middle, groups=first)
        self.bn1 = nn.BatchNorm2d(middle)
        self.shuffle1 = nn.ChannelShuffle(first)
        self.conv2 = conv3x3(middle, middle, stride, groups=middle)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = conv1x1(middle, outputs, groups=groups)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.AvgPool2d(3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.shuffle1(F.relu(self.bn1(self.conv1(x))))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(torch.cat([y, self.shortcut(x)], 1) if self.strided else y + x)
