"""ResNets for 32 × 32 images, as the distillation literature uses them (He et al. 2015, section 4.2, arXiv:1512.03385).

Parameters carry the names of RepDistiller and mdistiller, so their checkpoints load. Stages: layer1, layer2, layer3.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.models._blocks import (
    GlobalAveragePool,
    blocks_per_stage,
    chain,
    conv3x3,
    initialise,
    shortcut,
    stage,
    staged,
)
from kdal_cli.values import Count


def resnet(shape: Shape, *, depth: Count, widths: tuple[Count, ...] = (16, 16, 32, 64)) -> nn.Module:
    """A ResNet of `depth` = 6n + 2 layers: a stem and three stages of n basic blocks, `widths` channels each.

    Map sizes 1, 1/2, 1/4 of the image; D = widths[3] features. Where the shape changes, x is projected (option B of the
    paper). The literature's resnet32x4 is depth 32 with widths 32, 64, 128, 256.
    Raises UserError for another depth, or for other than four widths.
    """
    n = blocks_per_stage("CIFAR ResNet", depth, 6, 2, known="8, 14, 20, 32, 44, 56, 110")
    if len(widths) != 4:
        raise UserError(f"{len(widths)} widths", where="widths", cure="give four: of the stem and of each stage")
    stem, first, second, third = widths
    net = initialise(
        chain(
            conv1=conv3x3(shape.channels, stem),
            bn1=nn.BatchNorm2d(stem),
            relu=nn.ReLU(),
            layer1=stage(BasicBlock, stem, first, n, stride=1),
            layer2=stage(BasicBlock, first, second, n, stride=2),
            layer3=stage(BasicBlock, second, third, n, stride=2),
            pool=GlobalAveragePool(),
            fc=nn.Linear(third, shape.classes),
        )
    )
    return staged(net, "layer1", "layer2", "layer3", stem="relu")


class BasicBlock(nn.Module):
    """relu(downsample(x) + bn(conv(relu(bn(conv(x)))))); `downsample` is the identity where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(self.downsample(x) + y)
