"""Parts of pictures of any proportions, resampled to squares of one size.

A picture of h × w lies in the store as a square of K × K samples, so that all pictures are one tensor; its sizes are
kept beside it. A part is chosen in the picture's own proportions and found in the square by its scale along each axis:
what comes out of a square part is not distorted.

Axis letters: B batch, c channels, K side of a stored square, s side of what comes out, t tries.
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from kdal_cli.dataset import ImageData, ImageSet

TRIES = 10
"""Of a random part that has to lie within its picture."""

SLIM, WIDE = 3 / 4, 4 / 3
"""Width over height of a random part, at least and at most."""

DRAWS = 4 * TRIES
"""Random numbers that a random part takes."""


def in_pixels(size: int, crop: float) -> float:
    """The share of a shorter side that is cut out where this is first resized to whole pixels, ⌊size / crop⌋.

    As timm's evaluation does it, where 224 and a `crop_pct` of .9 are 224 of 248 pixels.
    """
    return size / max(size, math.floor(size / crop + 1e-6))


def cropped(data: ImageData, crop: float) -> ImageData:
    """The same pictures, of whose shorter side another share is seen without augmentation; other images as they are."""

    def part(images: ImageSet) -> ImageSet:
        return images if images.frame is None else replace(images, frame=replace(images.frame, crop=crop))

    if data.train.frame is None:
        return data
    how = replace(data.preparation, side=round(data.train.frame.size / crop))
    return replace(data, train=part(data.train), test=part(data.test), preparation=how)


def centre(sizes: Tensor, share: float) -> Tensor:
    """The square in the middle whose side is a share of the shorter side: (B, 2) heights and widths -> (B, 4) float64.

    A part is (top, left, bottom, right), each a share of the picture's own height or width.
    """
    sides = share * sizes.double().amin(1, keepdim=True) / sizes  # (B, 2) of height and of width
    return torch.cat([0.5 - sides / 2, 0.5 + sides / 2], 1)


def corner(sizes: Tensor, share: float, down: int, across: int) -> Tensor:
    """The same square in a corner: at the top or, with `down`, the bottom, at the left or, with `across`, the right."""
    sides = share * sizes.double().amin(1, keepdim=True) / sizes  # (B, 2) of height and of width
    first = torch.tensor([down, across]) * (1 - sides)
    return torch.cat([first, first + sides], 1)


def random(sizes: Tensor, draws: Tensor, least: float) -> Tensor:
    """Parts of an area from `least` to all, of proportions from 3:4 to 4:3 (log-uniform): (B, 2), (B, DRAWS) -> (B, 4).

    The first of ten that lies within its picture, or else the largest in the middle of allowed proportions: Szegedy et
    al. 2015, arXiv:1409.4842, as torchvision's RandomResizedCrop.
    """
    height, width = sizes.double().unbind(1)  # (B,)
    area, ratio, down, across = draws.view(-1, 4, TRIES).unbind(1)  # (B, t)
    area = height[:, None] * width[:, None] * (least + (1 - least) * area)
    ratio = (math.log(SLIM) + math.log(WIDE / SLIM) * ratio).exp()
    high, wide = (area / ratio).sqrt() / height[:, None], (area * ratio).sqrt() / width[:, None]  # (B, t) shares
    fits = (high <= 1) & (wide <= 1)
    first = fits.int().argmax(1, keepdim=True)  # (B, 1)
    high, wide, down, across = (x.gather(1, first)[:, 0] for x in (high, wide, down, across))  # (B,)
    none = ~fits.any(1)
    own = width / height
    high = torch.where(none, (own / SLIM).clamp(max=1), high)
    wide = torch.where(none, (WIDE / own).clamp(max=1), wide)
    down, across = (torch.where(none, 0.5, x) for x in (down, across))
    top, left = down * (1 - high), across * (1 - wide)
    return torch.stack([top, left, top + high, left + wide], 1)


def resampled(pixels: Tensor, rows: Tensor, parts: Tensor, flip: Tensor, size: int) -> Tensor:
    """Parts (B, 4) of images `rows` (B,) of `pixels` (N, c, K, K) uint8, mirrored where `flip`: (B, c, s, s) uint8.

    Bilinear, averaging over all that falls into a pixel (antialias), from the nearest whole lines of the store. rows,
    parts and flip are on the CPU; what comes out is where the pixels are. On a GPU the two axes are products of
    matrices, on a CPU the images go one by one through a faster loop: alike to ±1.
    """
    ends = _lines(parts, pixels.shape[2], pixels.shape[3])  # (B, 4)
    make = _by_matrices if pixels.is_cuda else _one_by_one
    found = make(pixels, rows, ends, size)
    flip = flip.to(found.device)
    return torch.where(flip[:, None, None, None], found.flip(3), found)


def _lines(parts: Tensor, height: int, width: int) -> Tensor:
    """Shares of height and width as whole lines of the store, at least one: (B, 4) int64."""
    across = torch.tensor([height, width, height, width], dtype=torch.float64)
    ends = (parts * across).round().long()
    low = ends[:, :2].clamp(min=0).minimum(across[:2].long() - 1)
    high = ends[:, 2:].minimum(across[2:].long()).maximum(low + 1)
    return torch.cat([low, high], 1)


def _one_by_one(pixels: Tensor, rows: Tensor, ends: Tensor, size: int) -> Tensor:
    found = pixels.new_empty(len(rows), pixels.shape[1], size, size)
    for place, (row, (top, left, bottom, right)) in enumerate(zip(rows.tolist(), ends.tolist(), strict=True)):
        part = pixels[row : row + 1, :, top:bottom, left:right]
        found[place] = F.interpolate(part, (size, size), mode="bilinear", antialias=True)[0]
    return found


def _by_matrices(pixels: Tensor, rows: Tensor, ends: Tensor, size: int) -> Tensor:
    whole = pixels.index_select(0, rows.to(pixels.device)).float()
    top, left, bottom, right = ends.to(pixels.device).float().unbind(1)
    down = _weights(top, bottom, pixels.shape[2], size)[:, None]  # (B, 1, s, K)
    across = _weights(left, right, pixels.shape[3], size)[:, None]
    return (down @ (whole @ across.transpose(2, 3))).round_().clamp_(0, 255).to(torch.uint8)


def _weights(low: Tensor, high: Tensor, lines: int, size: int) -> Tensor:
    """What each line of the store has to do with each that comes out: (B,), (B,) -> (B, s, K), rows summing to 1."""
    scale = ((high - low) / size)[:, None]  # (B, 1)
    at = low[:, None] + (torch.arange(size, device=low.device) + 0.5) * scale  # (B, s)
    line = torch.arange(lines, device=low.device) + 0.5  # (K,)
    weights = (1 - (line - at[:, :, None]).abs() / scale.clamp(min=1)[:, :, None]).clamp(min=0)
    inside = (line > low[:, None]) & (line < high[:, None])  # (B, K)
    weights = weights * inside[:, None]
    return weights / weights.sum(2, keepdim=True)
