"""What every measure asks of its inputs.

Axis letters: N images, C classes.
"""

import torch
from torch import Tensor

from kdal_cli.errors import MachineError


def checked_logits(logits: Tensor) -> Tensor:
    """`logits` (N, C) of any float type -> (N, C) float64 on the CPU.

    The CPU adds in a fixed order, so a measure has the same bits each time; float64 keeps logits of ±1e4 exact.

    Raises ValueError where there is no image or no class, MachineError where a logit is NaN or infinite: a model that
    has diverged has no accuracy.
    """
    if logits.ndim != 2 or 0 in logits.shape:
        raise ValueError(f"logits must be (N, C) with at least one image and one class, not {tuple(logits.shape)}")
    logits = logits.detach().cpu().double()
    broken = (~logits.isfinite().all(dim=1)).nonzero()  # (rows that are not finite, 1)
    if len(broken):
        raise MachineError(
            "the model's logits are not finite",
            where=f"{len(broken)} of {len(logits)} images, the first is row {broken[0].item()}",
            cure="the training has diverged, lower the learning rate",
        )
    return logits


def checked_labels(labels: Tensor, images: int, classes: int) -> Tensor:
    """`labels` (N,) of any integer type -> (N,) int64 on the CPU. ValueError unless N = `images` and all in [0, C)."""
    if labels.shape != (images,):
        raise ValueError(f"labels must be ({images},), one for each image, not {tuple(labels.shape)}")
    labels = labels.detach().cpu().long()
    if images and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}, which {classes} classes do not hold")
    return labels


def checked(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Both of the above: (N, C) float64 and (N,) int64, on the CPU."""
    logits = checked_logits(logits)
    return logits, checked_labels(labels, *logits.shape)


def top1(logits: Tensor) -> Tensor:
    """(N, C) -> (N,) int64, the class with the largest logit; among equals, the lowest class number."""
    return torch.argmax(logits, dim=1)
