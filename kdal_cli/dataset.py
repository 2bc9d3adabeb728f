"""What a data set is: images, what is true of them, and how they become what a network sees. Imports torch alone.

Axis letters: N images, H W pixels, c channels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Shape:
    """What a model must accept and answer: images of `channels` x `height` x `width`, one of `classes`."""

    channels: int
    height: int
    width: int
    classes: int


@dataclass(frozen=True)
class Preparation:
    """How an image file becomes the pixels that a network looks at: what is not said by its shape, mean and std.

    resize: `stretch`, to height and width whatever the aspect; or `shorter`, the shorter side to `side` pixels (0: to
    the size itself), and the centre cut out. interpolation: Pillow's, which averages over all that falls into a pixel.
    background: the colour behind what is transparent. ranges: {kind: (low, high)}, what becomes 0 and 255 of integers
    and floating-point numbers of more than 8 bits a channel.
    """

    resize: Literal["stretch", "shorter"] = "stretch"
    side: int = 0
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    background: tuple[int, int, int] = (255, 255, 255)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Labels:
    """What is true of the images of a split, as far as it is known. No number stands for a label that is unknown.

    images: N, how many there are. known: (M,) int64, sorted, ids of those that have a label. answers: (M,) int64, the
    labels of these, in the same order.
    """

    images: int
    known: Tensor
    answers: Tensor

    @classmethod
    def complete(cls, answers: Tensor) -> "Labels":
        """Every image has its label: (N,) int64."""
        return cls(len(answers), torch.arange(len(answers)), answers)

    def __len__(self) -> int:
        return self.images

    @property
    def all_known(self) -> bool:
        return len(self.known) == self.images

    def among(self, ids: Tensor) -> Tensor:
        """Those of `ids` (k,) that have a label, in the same order."""
        return ids if self.all_known else ids[torch.isin(ids, self.known)]

    def of(self, ids: Tensor) -> Tensor:
        """The labels of images `ids` (k,): (k,) int64. Raises LookupError where one of them is unknown."""
        places = torch.searchsorted(self.known, ids)
        here = places.clamp(max=len(self.known) - 1)
        if len(ids) and not (len(self.known) and torch.equal(self.known[here], ids)):
            raise LookupError("the label of an image that has none")
        return self.answers[places]

    def all(self) -> Tensor:
        """(N,) int64, the label of every image. Raises LookupError where one of them is unknown."""
        return self.of(torch.arange(self.images))

    def copied(self, ids: Tensor) -> "Labels":
        """The labels of a set whose image number i is a copy of image `ids[i]` of this one."""
        known = torch.isin(ids, self.known)
        return Labels(len(ids), known.nonzero().flatten(), self.of(ids[known]))


@dataclass(frozen=True)
class Frame:
    """How pictures of any proportions become the squares that a network sees.

    Each lies in the store as a square of samples. sizes: (N, 2) height and width of the pictures themselves, upright.
    size: the side of what is seen. crop: the share of the shorter side that is seen of a picture as it is, from its
    middle.
    """

    sizes: Tensor
    size: int
    crop: float


@dataclass(frozen=True)
class Preprocessing:
    """What a network does to an image before its first layer.

    mean, std: per channel, on the scale from 0 to 1. size: (height, width) that it resizes to; None, as the image is.
    made_for: (height, width) that its weights were made for, and crop: the share of the shorter side that was kept
    there, where that is known; photographs are then cropped so (`images.crops.in_pixels`).
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int] | None = None
    made_for: tuple[int, int] | None = None
    crop: float | None = None

    def over(self, channels: int) -> "Preprocessing":
        """The same for images of so many channels: of others than it is for, the mean over those, for each."""
        if len(self.mean) == channels:
            return self
        mean, std = ((sum(values) / len(values),) * channels for values in (self.mean, self.std))
        return replace(self, mean=mean, std=std)


class OnDemand(Protocol):
    """Images (N, c, H, W) uint8 that become pixels when they are read, the same ones each time."""

    @property
    def shape(self) -> torch.Size: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: int | slice | Sequence[int] | Tensor, /) -> Tensor:
        """(c, H, W) of a row, (n, c, H, W) of several, on the CPU."""
        ...

    def copied(self, ids: Tensor) -> "OnDemand":
        """A set whose image number i is a copy of image `ids[i]` of this one."""
        ...

    def expect(self, ids: Tensor) -> None:
        """These, (n,), are asked for next, in this order: whoever can begins to read them. Returns at once."""
        ...


@dataclass(frozen=True)
class ImageSet:
    """Images of one split, and what is true of them. An id is a row of `pixels`, everywhere and for ever.

    pixels: (N, c, H, W) uint8, on the CPU, possibly memory-mapped; or what is read on demand. labels: what an oracle
    would answer, where that is known. paths: the file of each image, or empty. frame: how they are looked at, where not
    as they are stored.
    """

    pixels: Tensor | OnDemand
    labels: Labels
    paths: tuple[str, ...] = ()
    frame: Frame | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def copied(self, ids: Tensor) -> "ImageSet":
        """A set whose image number i is a copy of image `ids[i]` of this one."""
        frame = replace(self.frame, sizes=self.frame.sizes[ids]) if self.frame is not None else None
        paths = tuple(self.paths[id] for id in ids.tolist()) if self.paths else ()
        pixels = self.pixels[ids] if isinstance(self.pixels, Tensor) else self.pixels.copied(ids)
        return ImageSet(pixels, self.labels.copied(ids), paths, frame)


@dataclass(frozen=True)
class ImageData:
    """A data set: `train` holds the pool and the validation images, `test` is measured and never acted upon.

    classes: the name of each class, in label order. mean, std: per channel, on the scale from 0 to 1. validation: (V,)
    ids of `train` that came as a validation set of their own, and are never in a pool; empty where there is none.
    preparation: how a file became one of these images, and is to become one for whoever is asked about it later.
    asked: (T,) ids of `train` that are in no pool and of which `test` holds copies, where there was no test set; until
    somebody is asked, their labels may be unknown. Else whatever is measured on has its labels: all of `test`, and
    `validation`. Raises ValueError where one is unknown.
    """

    name: str
    train: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    validation: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    preparation: Preparation = field(default_factory=Preparation)
    asked: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def __post_init__(self) -> None:
        untold = not self.test.labels.all_known and not len(self.asked)
        if untold or len(self.train.labels.among(self.validation)) < len(self.validation):
            raise ValueError("a test or validation image without a label")

    @property
    def shape(self) -> Shape:
        _, channels, height, width = self.train.pixels.shape
        if self.train.frame is not None:
            height = width = self.train.frame.size
        return Shape(channels, height, width, len(self.classes))

    @property
    def preprocessing(self) -> Preprocessing:
        """What a network does to these images that has no preprocessing of its own."""
        return Preprocessing(self.mean, self.std)

    def tested_on(self, ids: Tensor) -> "ImageData":
        """The same with copies of images `ids` (T,) of `train` as the test set: nobody has been asked about them."""
        return replace(self, test=self.train.copied(ids), asked=ids)

    def answered(self, ids: Tensor, labels: Tensor) -> "ImageData":
        """The same with those of its test images that somebody has named the class of: `ids` (T,), `labels` (T,)."""
        return replace(self, test=replace(self.train.copied(ids), labels=Labels.complete(labels)))
