"""A small convolutional net for digits and first tries: seconds on a CPU. Stages: stage1, stage2, stage3."""

from torch import nn

from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.models._blocks import chain, conv3x3, initialise, staged
from kdal_cli.values import Count, Share


def small_cnn(shape: Shape, *, width: Count = 32, dropout: Share = 0.0) -> nn.Module:
    """Three stages of conv, bn, relu, of `width`, 2 · width and twice 4 · width channels, halved in between.

    The last map is averaged over its quarters, D = 16 · width: with few labels it helps to know where something is.
    Below 8 pixels, where it has one pixel, D = 4 · width. `dropout` is the share of features dropped before the
    classifier. Raises UserError below 4 pixels.
    """
    if min(shape.height, shape.width) < 4:
        raise UserError(f"images of {shape.height} × {shape.width} are too small", cure="small_cnn needs 4 × 4 pixels")
    height, wide = shape.height // 4, shape.width // 4
    grid = 2 if min(height, wide) > 1 else 1
    net = initialise(
        chain(
            stage1=_convolution(shape.channels, width),
            pool1=nn.MaxPool2d(2),
            stage2=_convolution(width, 2 * width),
            pool2=nn.MaxPool2d(2),
            stage3=nn.Sequential(_convolution(2 * width, 4 * width), _convolution(4 * width, 4 * width)),
            pool=_grid(height, wide, grid),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(dropout),
            fc=nn.Linear(4 * width * grid**2, shape.classes),
        )
    )
    return staged(net, "stage1", "stage2", "stage3")


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return chain(conv=conv3x3(inputs, outputs), bn=nn.BatchNorm2d(outputs), relu=nn.ReLU())


def _grid(height: int, width: int, grid: int) -> nn.AvgPool2d:
    """(B, c, height, width) -> (B, c, grid, grid), in windows that overlap by a line where it does not divide a side.

    As adaptive pooling does it, whose gradient is not the same twice on a GPU.
    """
    strides = height // grid, width // grid
    return nn.AvgPool2d((height - strides[0] * (grid - 1), width - strides[1] * (grid - 1)), strides)
