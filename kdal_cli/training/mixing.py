"""MixUp and CutMix: every image of a batch becomes a mixture of itself and another image of the same batch.

    mixup   λ · own + (1 − λ) · other                          Zhang et al. 2018, arXiv:1710.09412
    cutmix  own, and in a rectangle of area 1 − λ the other    Yun et al. 2019, arXiv:1905.04899

λ ~ Beta(α, α), one a step, as in the code of both papers. Labelled images are mixed with labelled ones and images of
the pool with those of the pool, so that a mixture has two labels or none. Everything random follows from the step.

Axis letters: B batch, L its labelled part, c channels, H W pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdal_cli.streams import Streams
from kdal_cli.training.recipe import Recipe


@dataclass(frozen=True)
class Mixture:
    """How one step mixes. share: λ. centre: of the rectangle, as shares of height and width; None: the whole image."""

    share: float
    centre: tuple[float, float] | None = None

    def __call__(self, own: Tensor, other: Tensor) -> tuple[Tensor, float]:
        """(mixed pixels (B, c, H, W) uint8, how much of each is its own), where they are.

        A rectangle that leaves the image is cut off, and the share is that of the pixels that are left.
        """
        if self.centre is None:
            mixed = own.float().mul_(self.share).add_(other, alpha=1 - self.share)
            return mixed.round_().to(torch.uint8), self.share
        height, width = own.shape[2:]
        (top, bottom), (left, right) = (
            _stretch(middle, side, (1 - self.share) ** 0.5)
            for middle, side in zip(self.centre, (height, width), strict=True)
        )
        mixed = own.clone()
        mixed[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
        return mixed, 1 - (bottom - top) * (right - left) / (height * width)


@dataclass(frozen=True)
class Mixer:
    """Who is mixed with whom, step by step. mixup, cutmix: α of each; 0 is not done, of both each is a coin's side."""

    mixup: float
    cutmix: float
    streams: Streams

    @classmethod
    def of(cls, recipe: Recipe, streams: Streams) -> "Mixer":
        return cls(recipe.mixup, recipe.cutmix, streams.under("mix"))

    def __bool__(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0

    def at(self, step: int, labelled: int, pool: int) -> tuple[Mixture, Tensor]:
        """(how, the place of each image's other (labelled + pool,)) of a step."""
        rng = np.random.default_rng(self.streams.key(step))
        cut = self.mixup == 0 or (self.cutmix > 0 and rng.random() < 0.5)
        alpha = self.cutmix if cut else self.mixup
        share, centre = float(rng.beta(alpha, alpha)), (float(rng.random()), float(rng.random()))
        others = np.concatenate([rng.permutation(labelled), labelled + rng.permutation(pool)])
        return Mixture(share, centre if cut else None), torch.from_numpy(others.astype(np.int64))


def _stretch(middle: float, side: int, share: float) -> tuple[int, int]:
    """First pixel and last + 1 of a share of a side, around a pixel, as far as they lie within."""
    half, centre = int(side * share) // 2, int(middle * side)
    return max(0, centre - half), min(side, centre + half)
