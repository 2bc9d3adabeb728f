"""What the architectures share. A net is a chain of named steps, and a step's name begins the names of its parameters.

B batch, c channels, h w pixels of a map, D features.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.errors import UserError


def chain(**steps: nn.Module) -> nn.Sequential:
    """These modules one after the other, under these names."""
    return nn.Sequential(OrderedDict(steps))


def stage(
    block: Callable[[int, int, int], nn.Module], inputs: int, outputs: int, count: int, stride: int
) -> nn.Sequential:
    """`count` blocks (channels in, channels out, stride) in a row, of which the first changes the width and strides."""
    first = block(inputs, outputs, stride)
    return nn.Sequential(first, *(block(outputs, outputs, 1) for _ in range(count - 1)))


def resize_first(net: nn.Module, height: int, width: int) -> None:
    """Have a network see its images at one size, whatever theirs."""
    net.register_forward_pre_hook(partial(_resize, height=height, width=width))


def _resize(net: nn.Module, images: tuple[Tensor], *, height: int, width: int) -> Tensor:
    """(B, c, h, w) -> (B, c, height, width), bilinear."""
    return F.interpolate(images[0], (height, width), mode="bilinear", antialias=True)


def conv1x1(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """(B, inputs, h, w) -> (B, outputs, h / stride, w / stride), without bias."""
    return nn.Conv2d(inputs, outputs, 1, stride, groups=groups, bias=False)


def conv3x3(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """(B, inputs, h, w) -> (B, outputs, h / stride, w / stride), rounded up, without bias."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, groups=groups, bias=False)


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """What a residual block adds to: x itself, or where the shape changes, x through a 1 × 1 convolution and bn."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))


class GlobalAveragePool(nn.Module):
    """(B, D, h, w) -> (B, D): what enters the classifier, whatever the size of the image."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def initialise(net: nn.Sequential, linear_std: float | None = None) -> nn.Sequential:
    """Draw convolutions from N(0, 2 / (k² · channels out)), and linear layers from N(0, linear_std²) if that is given.

    Biases of what is drawn become 0; all else stays as PyTorch made it. Returns the same net. He et al. 2015,
    arXiv:1502.01852.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear) and linear_std is not None:
            nn.init.normal_(module.weight, std=linear_std)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    return net


def blocks_per_stage(family: str, depth: int, layers: int, extra: int, known: str) -> int:
    """n, where depth = layers · n + extra. Raises UserError, naming the `known` depths, when there is no such n."""
    n, rest = divmod(depth - extra, layers)
    if n < 1 or rest:
        raise UserError(
            f"no {family} has {depth} layers", where="depth", cure=f"use {layers}n + {extra}, as in {known}"
        )
    return n


def staged(net: nn.Sequential, *stages: str, stem: str = "") -> nn.Sequential:
    """The same net, with the module paths where distillation looks into it, from the first stage to the last.

    stem: what enters the first stage, where that is not the image itself.
    """
    net.stages, net.stem = stages, stem  # type: ignore[assignment]
    return net
