"""The words that every floor shares. Imports torch alone.

Axis letters: N images, C classes, D features, H W pixels, B batch, K draws, c channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Output:
    """What a model returns for a batch.

    logits: (B, C), before any softmax. features: (B, D), what enters the classifier. maps: {module path: (B, c, h, w)},
    only those that were asked for.
    """

    logits: Tensor
    features: Tensor
    maps: Mapping[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, rows: slice) -> "Output":
        return Output(self.logits[rows], self.features[rows], {name: m[rows] for name, m in self.maps.items()})

    def float(self) -> "Output":
        """The same in float32 (float64 stays): loss terms are never computed in less."""
        return Output(_float(self.logits), _float(self.features), {name: _float(m) for name, m in self.maps.items()})


def _float(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


@dataclass(frozen=True)
class Batch:
    """What a training step sees.

    ids: (B,) rows of the data set. views: (B,) which augmented view of each. pixels: (B, c, H, W) uint8, that view.
    labels: (L,) of the first L rows, the labelled part; the other B - L come from the pool and have none.
    """

    ids: Tensor
    views: Tensor
    pixels: Tensor
    labels: Tensor

    def __getitem__(self, rows: slice) -> "Batch":
        return Batch(self.ids[rows], self.views[rows], self.pixels[rows], self.labels[rows])


@dataclass(frozen=True)
class Query:
    """What a sampler chose: `rows` (k,) distinct positions in the pool, in the order picked, with `scores` (k,)."""

    rows: Tensor
    scores: Tensor


@dataclass(frozen=True)
class Shape:
    """What a model must accept and answer: images of `channels` x `height` x `width`, one of `classes`."""

    channels: int
    height: int
    width: int
    classes: int


@dataclass(frozen=True)
class ImageSet:
    """Images of one split, and what is true of them. An id is a row of `pixels`, everywhere and for ever.

    pixels: (N, c, H, W) uint8, on the CPU, possibly memory-mapped. labels: (N,) int64, what an oracle would answer.
    paths: the file of each image, or empty.
    """

    pixels: Tensor
    labels: Tensor
    paths: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class ImageData:
    """A data set: `train` holds the pool and the validation images, `test` is measured and never acted upon.

    classes: the name of each class, in label order. mean, std: per channel, on the scale from 0 to 1.
    """

    name: str
    train: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def shape(self) -> Shape:
        _, channels, height, width = self.train.pixels.shape
        return Shape(channels, height, width, len(self.classes))


class Watcher(Protocol):
    """Whoever wants to see a run as it goes: the display, the log of figures. Every call returns at once."""

    def say(self, text: str) -> None: ...

    def begin(self, what: str, steps: int) -> None:
        """A piece of work of so many steps starts."""
        ...

    def advance(self, steps: int, images: int) -> None:
        """So many steps and images of it are done."""
        ...

    def figures(self, values: Mapping[str, float]) -> None:
        """What was measured on the way: loss parts, learning rate, validation accuracy."""
        ...

    def end(self) -> None: ...
