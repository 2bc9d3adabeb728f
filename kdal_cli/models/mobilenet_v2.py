"""MobileNetV2 for small images, as the distillation literature uses it (Sandler et al. 2018, arXiv:1801.04381).

Against the paper: ReLU for ReLU6, stride 1 in the second stage, no dropout. Parameters carry the names of RepDistiller
and mdistiller, so their checkpoints load. Stages, last block of each map size: blocks.1, blocks.2, blocks.4, blocks.6.
"""

from functools import partial

from torch import Tensor, nn

from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.models._blocks import GlobalAveragePool, chain, conv1x1, conv3x3, initialise, stage, staged
from kdal_cli.values import Count, Positive

STEM, LAST = 32, 1280
STAGES = ((16, 1, 1), (24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
"""Channels at width 1, blocks, stride."""


def mobilenet_v2(shape: Shape, *, width: Positive = 0.5, expansion: Count = 6) -> nn.Module:
    """A strided stem, seven stages of inverted residuals and a 1 × 1 convolution; channels scaled by `width`.

    Map sizes 1/2, 1/4, 1/8, 1/16 of the image; D = 1280 features, more only above width 1. The literature's "half" is
    width 0.5. Raises UserError where `width` leaves a stage without channels.
    """
    if int(STAGES[0][0] * width) < 1:
        raise UserError(f"a MobileNetV2 of width {width} has no channels", where="width", cure="use 0.0625 or more")
    inputs = int(STEM * width)
    conv1 = nn.Sequential(conv3x3(shape.channels, inputs, 2), nn.BatchNorm2d(inputs), nn.ReLU())
    blocks = nn.Sequential()
    for i, (channels, count, stride) in enumerate(STAGES):
        block = partial(InvertedResidual, expansion=expansion if i else 1)
        outputs = int(channels * width)
        blocks.append(stage(block, inputs, outputs, count, stride))
        inputs = outputs
    last = int(LAST * max(width, 1.0))
    net = chain(
        conv1=conv1,
        blocks=blocks,
        conv2=nn.Sequential(conv1x1(inputs, last), nn.BatchNorm2d(last), nn.ReLU()),
        pool=GlobalAveragePool(),
        classifier=nn.Sequential(nn.Linear(last, shape.classes)),
    )
    return staged(initialise(net, linear_std=0.01), "blocks.1", "blocks.2", "blocks.4", "blocks.6", stem="conv1")


class InvertedResidual(nn.Module):
    """1 × 1 to `expansion` times the channels, 3 × 3 depthwise, 1 × 1 without ReLU; plus x where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, expansion: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            conv1x1(inputs, middle),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            conv3x3(middle, middle, stride, groups=middle),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            conv1x1(middle, outputs),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)
