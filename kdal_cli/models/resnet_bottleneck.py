"""The ImageNet ResNets of bottleneck blocks behind a stem for small images (He et al. 2015, arXiv:1512.03385).

Parameters carry the names of RepDistiller and mdistiller, so their ResNet50 loads. Stages: layer1 to layer4.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.models._blocks import GlobalAveragePool, chain, conv1x1, conv3x3, initialise, shortcut, stage, staged

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Depth -> blocks of each stage (the paper's table 1)."""


def resnet_bottleneck(shape: Shape, *, depth: Literal[50, 101, 152] = 50) -> nn.Module:
    """A 3 × 3 stem without stride or pooling, then four stages of bottleneck blocks.

    Map sizes 1, 1/2, 1/4, 1/8 of the image, 256 to 2048 channels; D = 2048. Raises UserError for another depth.
    """
    if depth not in BLOCKS:
        raise UserError(f"no bottleneck ResNet has {depth} layers", where="depth", cure="use 50, 101 or 152")
    first, second, third, fourth = BLOCKS[depth]
    net = initialise(
        chain(
            conv1=conv3x3(shape.channels, 64),
            bn1=nn.BatchNorm2d(64),
            relu=nn.ReLU(),
            layer1=stage(Bottleneck, 64, 256, first, stride=1),
            layer2=stage(Bottleneck, 256, 512, second, stride=2),
            layer3=stage(Bottleneck, 512, 1024, third, stride=2),
            layer4=stage(Bottleneck, 1024, 2048, fourth, stride=2),
            pool=GlobalAveragePool(),
            linear=nn.Linear(2048, shape.classes),
        )
    )
    return staged(net, "layer1", "layer2", "layer3", "layer4", stem="relu")


class Bottleneck(nn.Module):
    """relu(shortcut(x) + f(x)), f = 1 × 1 to a quarter of the channels, 3 × 3, 1 × 1 back, each with bn."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        middle = outputs // 4
        self.conv1 = conv1x1(inputs, middle)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = conv3x3(middle, middle, stride)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = conv1x1(middle, outputs)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(self.shortcut(x) + y)
