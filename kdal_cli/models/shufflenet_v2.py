"""ShuffleNetV2 for small images, as the distillation literature uses it (Ma et al. 2018, arXiv:1807.11164).

Against the paper: a 1 × 1 stem without pooling. Parameters carry the names of RepDistiller and mdistiller, so their
checkpoints load. Stages: layer1, layer2, layer3.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError, nearest
from kdal_cli.models._blocks import GlobalAveragePool, chain, conv1x1, conv3x3, stage, staged

STEM = 24
WIDTHS = {
    "x0_5": (48, 96, 192, 1024),
    "x1_0": (116, 232, 464, 1024),
    "x1_5": (176, 352, 704, 1024),
    "x2_0": (244, 488, 976, 2048),
}
"""Size -> channels of the three stages and of the last convolution (the paper's table 5)."""


def shufflenet_v2(shape: Shape, *, size: Literal["x0_5", "x1_0", "x1_5", "x2_0"] = "x1_0") -> nn.Module:
    """Three stages of 4, 8 and 4 units and a 1 × 1 convolution.

    Map sizes 1/2, 1/4, 1/8 of the image; D = 1024 features, 2048 in x2_0.
    """
    if size not in WIDTHS:
        raise UserError(f"no ShuffleNetV2 has size {size!r}", where="size", cure=nearest(str(size), WIDTHS))
    first, second, third, last = WIDTHS[size]
    net = chain(
        conv1=conv1x1(shape.channels, STEM),
        bn1=nn.BatchNorm2d(STEM),
        relu=nn.ReLU(),
        layer1=stage(_unit, STEM, first, 4, stride=2),
        layer2=stage(_unit, first, second, 8, stride=2),
        layer3=stage(_unit, second, third, 4, stride=2),
        conv2=conv1x1(third, last),
        bn2=nn.BatchNorm2d(last),
        relu2=nn.ReLU(),
        pool=GlobalAveragePool(),
        linear=nn.Linear(last, shape.classes),
    )
    return staged(net, "layer1", "layer2", "layer3", stem="relu")


def _unit(inputs: int, outputs: int, stride: int) -> nn.Module:
    return DownUnit(inputs, outputs) if stride == 2 else SplitUnit(outputs)


class SplitUnit(nn.Module):
    """Half of the channels pass as they are, half through 1 × 1, 3 × 3 depthwise, 1 × 1; then both are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = conv1x1(half, half)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = conv3x3(half, half, groups=half)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = conv1x1(half, half)
        self.bn3 = nn.BatchNorm2d(half)
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)  # (B, c / 2, h, w) each
        right = F.relu(self.bn1(self.conv1(right)))
        right = self.bn2(self.conv2(right))
        right = F.relu(self.bn3(self.conv3(right)))
        return self.shuffle(torch.cat([left, right], 1))


class DownUnit(nn.Module):
    """Two strided paths from all of x, (depthwise, 1 × 1) and (1 × 1, depthwise, 1 × 1), side by side and shuffled."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.conv1 = conv3x3(inputs, inputs, 2, groups=inputs)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2 = conv1x1(inputs, half)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = conv1x1(inputs, half)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = conv3x3(half, half, 2, groups=half)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = conv1x1(half, half)
        self.bn5 = nn.BatchNorm2d(half)
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        left = self.bn1(self.conv1(x))
        left = F.relu(self.bn2(self.conv2(left)))
        right = F.relu(self.bn3(self.conv3(x)))
        right = self.bn4(self.conv4(right))
        right = F.relu(self.bn5(self.conv5(right)))
        return self.shuffle(torch.cat([left, right], 1))
