"""VGG with batch-norm and one linear layer, for small images (Simonyan and Zisserman 2014, arXiv:1409.1556).

Parameters carry the names of RepDistiller and mdistiller, so their checkpoints load. Stages: relu0 to relu4; block0 to
block4 are the same maps before the ReLU.
"""

from typing import Literal

from torch import nn

from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.models._blocks import GlobalAveragePool, chain, initialise, staged

CONVOLUTIONS = {
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Depth, counted with the three linear layers of the paper's nets -> convolutions of each block."""

WIDTHS = (64, 128, 256, 512, 512)


def vgg(shape: Shape, *, depth: Literal[8, 11, 13, 16, 19]) -> nn.Module:
    """Five blocks of 3 × 3 convolutions, 64 to 512 channels, max-pooled in between; D = 512 features.

    Map sizes 1, 1/2, 1/4, 1/8, 1/8 of the image; from 64 pixels on the fifth is 1/16. Raises UserError below 8 pixels.
    """
    side = min(shape.height, shape.width)
    if depth not in CONVOLUTIONS:
        raise UserError(
            f"no VGG has {depth} layers", where="depth", cure=f"use one of {', '.join(map(str, CONVOLUTIONS))}"
        )
    if side < 8:
        raise UserError(f"images of {shape.height} × {shape.width} are too small for VGG", cure="it needs 8 × 8 pixels")
    steps: dict[str, nn.Module] = {}
    inputs = shape.channels
    for i, (count, outputs) in enumerate(zip(CONVOLUTIONS[depth], WIDTHS, strict=True)):
        steps[f"block{i}"] = _block(inputs, outputs, count)
        steps[f"relu{i}"] = nn.ReLU()
        steps[f"pool{i}"] = nn.MaxPool2d(2)
        inputs = outputs
    if side < 64:
        steps["pool3"] = nn.Identity()
    steps["pool4"] = GlobalAveragePool()
    net = initialise(chain(**steps, classifier=nn.Linear(inputs, shape.classes)), linear_std=0.01)
    return staged(net, "relu1", "relu2", "relu3", "relu4", stem="relu0")


def _block(inputs: int, outputs: int, count: int) -> nn.Sequential:
    """(conv, bn, relu) `count` times, without the last relu, which is a step of its own."""
    layers: list[nn.Module] = []
    for i in range(count):
        conv = nn.Conv2d(inputs if i == 0 else outputs, outputs, 3, padding=1)
        layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
