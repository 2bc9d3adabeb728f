"""What the pixels of a data set say about it: mean and spread of each channel, and images that occur twice.

Axis letters: N images, c channels, H W pixels.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdal_cli.errors import UserError
from kdal_cli.types import Watcher

CHUNK = 1 << 25
"""Bytes of pixels at a time."""


def mean_std(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of `pixels` (N, c, H, W) uint8, see `of_levels`."""
    counts = torch.zeros(pixels.shape[1], 256, dtype=torch.int64)
    for chunk in _chunks(pixels):
        for channel, values in enumerate(chunk.unbind(1)):
            counts[channel] += torch.bincount(values.flatten(), minlength=256)
    return of_levels(counts)


def of_levels(counts: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, on the scale from 0 to 1, of how often its values occur, (c, 256).

    Exact. A channel of one value gets the spread 1, to be divided by.
    """
    share = counts.double() / counts.sum(1, keepdim=True)  # (c, 256)
    value = torch.arange(256, dtype=torch.float64) / 255  # (256,)
    mean = (share * value).sum(1)  # (c,)
    spread = (share * (value - mean[:, None]) ** 2).sum(1).sqrt()  # (c,)
    spread[(counts > 0).sum(1) == 1] = 1.0
    return tuple(mean.tolist()), tuple(spread.tolist())


@dataclass(frozen=True)
class Twins:
    """Images that are the same pixel for pixel: how many training images repeat an earlier one, how many test and how
    many validation images are training images. leaked_alike, held_alike: how many test and validation images look like
    a training image, these counted."""

    repeated: int
    leaked: int
    held: int = 0
    leaked_alike: int = 0
    held_alike: int = 0


def twins(train: Tensor, test: Tensor, validation: Tensor | None = None) -> Twins:
    """Counted in train (N, c, H, W), test (M, c, H, W) and validation (V, c, H, W), all uint8."""
    return of_digests(
        *(np.zeros(0, np.uint64) if part is None else digests(part) for part in (train, test, validation))
    )


def of_digests(train: np.ndarray, test: np.ndarray, validation: np.ndarray) -> Twins:
    """Counted in the digests, uint64, of the images of each part.

    That two of a million different images share one has a chance of 1 in 30 million.
    """
    known = np.sort(train)  # np.unique, and np.isin with it, take a hundred times as long
    leaked, held = (
        int((np.searchsorted(known, part, "right") > np.searchsorted(known, part)).sum()) for part in (test, validation)
    )
    return Twins(int((known[1:] == known[:-1]).sum()), leaked, held)


def digests(pixels: Tensor) -> np.ndarray:
    """64 bits of BLAKE2 of each image (N, c, H, W) uint8: (N,) uint64."""
    images = (image for chunk in _chunks(pixels) for image in chunk.flatten(1).contiguous().numpy())
    found = (int.from_bytes(hashlib.blake2b(image, digest_size=8).digest(), "big") for image in images)
    return np.fromiter(found, np.uint64, len(pixels))


def say_twins(found: Twins, watcher: Watcher) -> None:
    """Tell what `twins` counted, loudly where the test set is concerned; nothing when there are none."""
    if found.repeated:
        watcher.say(f"{found.repeated:,} training images repeat another one, pixel for pixel")
    both = (("validation", found.held, found.held_alike), ("test", found.leaked, found.leaked_alike))
    for split, same, alike in both:
        if same:
            what = f"{same:,} {split} images are training images too, pixel for pixel"
            watcher.say(f"WARNING: {what}: {split} accuracy will flatter")
        if alike > same:
            what = f"{alike - same:,} {split} images look much like a training image"
            watcher.say(f"{what}: the same picture, resized or saved again, or pictures of one kind")


def refuse_alike(first: Tensor, images: int, found: Twins, where: object, cure: str) -> None:
    """Raise UserError when all training images, of which the first is (c, H, W), are one and the same: nothing can be
    learnt from them."""
    if found.repeated < images - 1:
        return
    low, high = torch.aminmax(first)
    every = f": every pixel is {int(low)}" if low == high else ""
    raise UserError(f"the {images:,} training images are all the same{every}", where=where, cure=cure)


def _chunks(pixels: Tensor) -> tuple[Tensor, ...]:
    return pixels.split(max(1, CHUNK // max(1, pixels[:1].numel())))
