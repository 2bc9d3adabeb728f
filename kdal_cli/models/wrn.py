"""Wide ResNets (Zagoruyko and Komodakis 2016, arXiv:1605.07146): wrn_d_w has depth d and width w.

Parameters carry the names of RepDistiller and mdistiller, so their checkpoints load. Stages: block1, block2, block3.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.dataset import Shape
from kdal_cli.models._blocks import (
    GlobalAveragePool,
    blocks_per_stage,
    chain,
    conv1x1,
    conv3x3,
    initialise,
    stage,
    staged,
)
from kdal_cli.values import Count, Share


def wrn(shape: Shape, *, depth: Count, width: Count, dropout: Share = 0.0) -> nn.Module:
    """A Wide ResNet of `depth` = 6n + 4 layers: three stages of n blocks, of 16, 32 and 64 times `width` channels.

    Map sizes 1, 1/2, 1/4 of the image; D = 64 · width features. `dropout` is the share of values dropped between the
    two convolutions of a block. Raises UserError for another depth.
    """
    n = blocks_per_stage("Wide ResNet", depth, 6, 4, known="10, 16, 22, 28, 40")
    first, second, third = 16 * width, 32 * width, 64 * width
    block = partial(PreactivationBlock, dropout=dropout)
    net = chain(
        conv1=conv3x3(shape.channels, 16),
        block1=chain(layer=stage(block, 16, first, n, stride=1)),
        block2=chain(layer=stage(block, first, second, n, stride=2)),
        block3=chain(layer=stage(block, second, third, n, stride=2)),
        bn1=nn.BatchNorm2d(third),
        relu=nn.ReLU(),
        pool=GlobalAveragePool(),
        fc=(fc := nn.Linear(third, shape.classes)),
    )
    nn.init.zeros_(fc.bias)
    return staged(initialise(net), "block1", "block2", "block3", stem="conv1")


class PreactivationBlock(nn.Module):
    """x + f(a), a = relu(bn(x)), f = conv, bn, relu, dropout, conv; where the width changes, convShortcut(a) + f(a)."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv3x3(outputs, outputs)
        self.convShortcut = None if inputs == outputs else conv1x1(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        y = F.relu(self.bn2(self.conv1(active)))
        y = self.conv2(self.dropout(y))
        return y + (x if self.convShortcut is None else self.convShortcut(active))
