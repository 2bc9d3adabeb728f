"""A network with all that goes before it, as one module: bytes in, logits out.

Axis letters: B batch, C classes, c channels, H W pixels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Whole(nn.Module):
    """pixels (B, c, H, W) uint8 -> logits (B, C): what a file holds that needs no normalisation from outside.

    mean, std: per channel, on the scale from 0 to 1. size: (height, width) that images are resized to, or None.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, body: nn.Module, mean: Sequence[float], std: Sequence[float], size: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.body, self.size = body, size
        self.register_buffer("mean", torch.tensor(mean).mul(255)[:, None, None])  # (c, 1, 1)
        self.register_buffer("std", torch.tensor(std).mul(255)[:, None, None])  # (c, 1, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.body(self.prepared(pixels))

    def prepared(self, pixels: Tensor) -> Tensor:
        """What the body sees of pixels (B, c, H, W)."""
        images = pixels.float()
        if self.size is not None and images.shape[2:] != self.size:
            images = F.interpolate(images, self.size, mode="bilinear", antialias=True)
        return (images - self.mean) / self.std
