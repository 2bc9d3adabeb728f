"""Colours and shapes of a batch changed, each image by its own draw.

Axis letters: B batch, c channels, H W pixels.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

GREY = (0.299, 0.587, 0.114)
"""What red, green and blue weigh in grey: ITU-R BT.601."""


def jittered(images: Tensor, draws: Tensor, most: float) -> Tensor:
    """Brightness, contrast and saturation multiplied by 1 ± `most` at most: (B, c, H, W) from 0 to 255, (B, 3) draws.

    In this order, cut off at 0 and 255 after each. Grey images have no saturation.
    """
    brightness, contrast, saturation = (1 + most * (2 * draws - 1)).float()[:, :, None, None, None].unbind(1)
    images = (images * brightness).clamp(0, 255)
    images = _between(_grey(images).mean((1, 2, 3), keepdim=True), images, contrast)
    return images if images.shape[1] == 1 else _between(_grey(images), images, saturation)


def trivially_augmented(images: Tensor, draws: Tensor, limits: Sequence[float] | None = None) -> Tensor:
    """One of 14 operations an image, at a strength of its own: (B, c, H, W) from 0 to 255, (B, 3) draws on the CPU.

    draws: which operation, how strong, in which direction. limits: the strongest that each operation may be; 1, where
    there are none. TrivialAugment, wide: Müller and Hutter 2021, arXiv:2103.10158.
    """
    which, strength, sign = draws.unbind(1)
    which = (which * len(OPERATIONS)).long()
    sign = torch.where(sign < 0.5, -1.0, 1.0).double()
    changed = images.clone()
    if limits is not None:
        strength = strength * torch.tensor(limits, dtype=strength.dtype)[which]
    for number in which.unique().tolist():
        rows = (which == number).nonzero().flatten()
        some = rows.to(images.device)
        by, to = (x[rows].float().to(images.device)[:, None, None, None] for x in (strength, sign))
        changed[some] = OPERATIONS[number](images[some], by, to)
    return changed


def _between(one: Tensor, other: Tensor, share: Tensor) -> Tensor:
    return (one + share * (other - one)).clamp(0, 255)


def _grey(images: Tensor) -> Tensor:
    """(B, c, H, W) -> (B, 1, H, W)"""
    if images.shape[1] != len(GREY):
        return images.mean(1, keepdim=True)
    weights = torch.tensor(GREY, device=images.device)[:, None, None]
    return (images * weights).sum(1, keepdim=True)


Operation = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(images (n, c, H, W) from 0 to 255, strength (n, 1, 1, 1) from 0 to 1, direction (n, 1, 1, 1), 1 or −1) -> images"""


def _identity(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    return images


def _shear_x(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    return _moved(images, across=0.99 * strength * sign)


def _shear_y(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    return _moved(images, down=0.99 * strength * sign)


def _translate_x(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    return _moved(images, right=strength * sign * 2 / 7)


def _translate_y(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    return _moved(images, below=strength * sign * 2 / 7)


def _rotate(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    angle = strength * sign * math.radians(135)
    return _moved(images, turn=angle)


def _moved(images: Tensor, **how: Tensor) -> Tensor:
    """Sheared, shifted (1 is half a side) or turned about the middle, black coming in from outside."""
    none = torch.zeros(len(images), device=images.device)
    across, down, right, below, turn = (
        how[name].flatten() if name in how else none for name in ("across", "down", "right", "below", "turn")
    )
    first = torch.stack([turn.cos(), across - turn.sin(), right], 1)  # (n, 3)
    second = torch.stack([down + turn.sin(), turn.cos(), below], 1)
    grid = F.affine_grid(torch.stack([first, second], 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def _brightness(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    return (images * (1 + 0.99 * strength * sign)).clamp(0, 255)


def _colour(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    return _between(_grey(images), images, 1 + 0.99 * strength * sign)


def _contrast(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    return _between(_grey(images).mean((1, 2, 3), keepdim=True), images, 1 + 0.99 * strength * sign)


def _sharpness(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    c = images.shape[1]
    kernel = torch.ones(c, 1, 3, 3, device=images.device)
    kernel[:, :, 1, 1] = 5
    smooth = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel / kernel[0].sum(), groups=c)
    return _between(smooth, images, 1 + 0.99 * strength * sign)


def _posterize(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    """8 to 2 bits are left."""
    step = 2 ** (6 * strength).round()
    return (images / step).floor() * step


def _solarize(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    """What is bright turns into its negative: from 255 on, down to everything."""
    return torch.where(images >= 255 * (1 - strength), 255 - images, images)


def _autocontrast(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return torch.where(high > low, (images - low) * (255 / (high - low).clamp(min=1)), images)


def _equalize(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    """Each channel's values by their rank, so that all 256 are about as frequent."""
    values = images.round().long().flatten(2)  # (n, c, H·W)
    counts = torch.zeros(*values.shape[:2], 256, device=images.device).scatter_add_(
        2, values, torch.ones_like(values, dtype=torch.float32)
    )
    rank = counts.cumsum(2)  # (n, c, 256)
    lowest = rank.gather(2, values.amin(2, keepdim=True))
    span = (values.shape[2] - lowest).clamp(min=1)
    return ((rank - lowest).clamp(min=0) * (255 / span)).gather(2, values).view_as(images)


OPERATIONS: tuple[Operation, ...] = (
    _identity,
    _shear_x,
    _shear_y,
    _translate_x,
    _translate_y,
    _rotate,
    _brightness,
    _colour,
    _contrast,
    _sharpness,
    _posterize,
    _solarize,
    _autocontrast,
    _equalize,
)
