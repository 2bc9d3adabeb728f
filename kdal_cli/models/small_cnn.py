"""A small convolutional net for digits and first tries: seconds on a CPU. Stages: stage1, stage2, stage3."""

from torch import nn

from kdal_cli.errors import UserError
from kdal_cli.models._blocks import GlobalAveragePool, chain, conv3x3, initialise, staged
from kdal_cli.types import Shape
from kdal_cli.values import Count, Share


def small_cnn(shape: Shape, *, width: Count = 32, dropout: Share = 0.0) -> nn.Module:
    """Three stages of conv, bn, relu, of `width`, 2 · width and 4 · width channels, halved in between; D = 4 · width.

    `dropout` is the share of features dropped before the classifier. Raises UserError below 4 pixels.
    """
    if min(shape.height, shape.width) < 4:
        raise UserError(f"images of {shape.height} × {shape.width} are too small", cure="small_cnn needs 4 × 4 pixels")
    net = initialise(
        chain(
            stage1=_stage(shape.channels, width),
            pool1=nn.MaxPool2d(2),
            stage2=_stage(width, 2 * width),
            pool2=nn.MaxPool2d(2),
            stage3=_stage(2 * width, 4 * width),
            pool=GlobalAveragePool(),
            dropout=nn.Dropout(dropout),
            fc=nn.Linear(4 * width, shape.classes),
        )
    )
    return staged(net, "stage1", "stage2", "stage3")


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return chain(conv=conv3x3(inputs, outputs), bn=nn.BatchNorm2d(outputs), relu=nn.ReLU())
