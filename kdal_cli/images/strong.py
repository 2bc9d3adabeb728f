"""Strong views: what a student must recognise all the same, once it is sure of a weak view of the same image.

Two operations of RandAugment, Cubuk et al. 2020 (arXiv:1909.13719), each at a random strength, then a hole, DeVries and
Taylor 2017 (arXiv:1708.04552): the views of FixMatch, Sohn et al. 2020 (arXiv:2001.07685), appendix E.

Axis letters: B batch, c channels, H W pixels.
"""

import torch
from torch import Tensor

from kdal_cli.images.colours import trivially_augmented

OPERATIONS = 2
"""One after the other."""

LIMITS = (
    1.0,  # identity
    0.3 / 0.99,  # shear: 0.3
    0.3 / 0.99,
    1.0,  # translate: a seventh of the side
    1.0,
    30 / 135,  # rotate: 30°
    0.9 / 0.99,  # brightness, colour, contrast, sharpness: by 0.9
    0.9 / 0.99,
    0.9 / 0.99,
    0.9 / 0.99,
    4 / 6,  # posterize: to 4 bits
    1.0,  # solarize
    1.0,  # autocontrast
    1.0,  # equalize
)
"""How strong each operation of `images.colours` may be: a digit that is turned around would be another one."""

HOLE, GREY = 0.5, 127.0
"""The largest side of a hole, as a share of the shorter side of the image, and what fills it."""

DRAWS = 3 * OPERATIONS + 3
"""Random numbers that a view takes."""


def changed(images: Tensor, draws: Tensor) -> Tensor:
    """(B, c, H, W) uint8 and (B, DRAWS) from 0 to 1 on the CPU -> (B, c, H, W) uint8."""
    seen = images.float()
    for n in range(OPERATIONS):
        seen = trivially_augmented(seen, draws[:, 3 * n : 3 * n + 3], LIMITS)
    seen = torch.where(holes(draws[:, -3:], *images.shape[2:]).to(seen.device), GREY, seen)
    return seen.round_().clamp_(0, 255).to(torch.uint8)


def holes(draws: Tensor, height: int, width: int) -> Tensor:
    """A square somewhere, cut off at the edges, (B, 3) -> (B, 1, H, W) bool. draws: its side, its middle, y and x."""
    half = draws[:, :1] * HOLE * min(height, width) / 2  # (B, 1)
    down, across = (
        (torch.arange(n) + 0.5 - n * middle[:, None]).abs() < half  # (B, n)
        for n, middle in ((height, draws[:, 1]), (width, draws[:, 2]))
    )
    return (down[:, :, None] & across[:, None])[:, None]
