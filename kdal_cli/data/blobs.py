"""Synthetic images for tests: one random prototype per class, and noise."""

import torch
from torch import Generator, Tensor

from kdal_cli.dataset import ImageData, ImageSet, Labels
from kdal_cli.errors import UserError
from kdal_cli.images.statistics import mean_std
from kdal_cli.streams import Streams
from kdal_cli.types import Watcher
from kdal_cli.values import Count, Natural, NonNegative

GREY, SPREAD = 128, 32


def blobs(
    watcher: Watcher,
    *,
    train: Count = 512,
    test: Count = 256,
    classes: Count = 4,
    size: Count = 8,
    channels: Count = 1,
    noise: NonNegative = 1.5,
    seed: Natural = 0,
) -> ImageData:
    """128 + 32 (prototype of the class + `noise` × standard normal), rounded and clipped to uint8; classes in balance.

    The prototypes are standard normal too, so two classes lie sqrt(2 c size²) apart in a noise of `noise`: 11.3 for the
    defaults, where the best possible classifier is all but perfect at 1.5 and errs in some percent of cases at 3.
    Drawn from generators of its own: the same keywords give the same images, whatever the run's seed.

    Raises UserError when a split has fewer images than there are classes.
    """
    if min(train, test) < classes:
        raise UserError(f"{min(train, test)} images cannot show {classes} classes", where="data.train, data.test")
    streams = Streams(seed).under("blobs")
    prototypes = torch.randn(classes, channels, size, size, generator=streams.at("prototypes"))
    pixels, labels = _draw(prototypes, train, noise, streams.at("train"))
    learn, measure = ImageSet(pixels, labels), ImageSet(*_draw(prototypes, test, noise, streams.at("test")))
    return ImageData("blobs", learn, measure, tuple(map(str, range(classes))), *mean_std(pixels))


def _draw(prototypes: Tensor, n: int, noise: float, rng: Generator) -> tuple[Tensor, Labels]:
    """`n` images of `prototypes` (C, c, H, W), and their labels."""
    labels = (torch.arange(n) % len(prototypes))[torch.randperm(n, generator=rng)]
    shades = prototypes[labels]  # (n, c, H, W)
    shades = shades + noise * torch.randn(shades.shape, generator=rng)
    return (GREY + SPREAD * shades).round().clamp(0, 255).to(torch.uint8), Labels.complete(labels)
