"""What the pixels of a data set say about it: mean and spread of each channel, and images that occur twice.

Axis letters: N images, c channels, H W pixels.
"""

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

from kdal_cli.types import Watcher

CHUNK = 4096


def mean_std(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of `pixels` (N, c, H, W) uint8, on the scale from 0 to 1.

    Counted exactly, from the histogram of the 256 values. A channel of one value gets the spread 1, to be divided by.
    """
    counts = torch.zeros(pixels.shape[1], 256, dtype=torch.int64)
    for chunk in pixels.split(CHUNK):
        for channel, values in enumerate(chunk.unbind(1)):
            counts[channel] += torch.bincount(values.flatten(), minlength=256)
    share = counts.double() / counts.sum(1, keepdim=True)  # (c, 256)
    value = torch.arange(256, dtype=torch.float64) / 255  # (256,)
    mean = (share * value).sum(1)  # (c,)
    spread = (share * (value - mean[:, None]) ** 2).sum(1).sqrt()  # (c,)
    spread[(counts > 0).sum(1) == 1] = 1.0
    return tuple(mean.tolist()), tuple(spread.tolist())


def twins(train: Tensor, test: Tensor) -> tuple[int, int]:
    """(how many training images repeat an earlier one, how many test images are training images), pixel for pixel.

    train (N, c, H, W) and test (M, c, H, W) uint8; 16 bytes of BLAKE2 stand for an image.
    """
    known = set(_digests(train))
    return len(train) - len(known), sum(digest in known for digest in _digests(test))


def say_twins(repeated: int, leaked: int, watcher: Watcher) -> None:
    """Tell what `twins` counted, loudly where the test set is concerned; nothing when there are none."""
    if repeated:
        watcher.say(f"{repeated:,} training images repeat another one, pixel for pixel")
    if leaked:
        watcher.say(
            f"WARNING: {leaked:,} test images are training images too, pixel for pixel: test accuracy will flatter"
        )


def _digests(pixels: Tensor) -> Iterator[bytes]:
    for chunk in pixels.split(CHUNK):
        for image in chunk.flatten(1).contiguous().numpy():
            yield hashlib.blake2b(image, digest_size=16).digest()
