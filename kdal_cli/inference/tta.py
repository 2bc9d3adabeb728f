"""Test-time augmentation: an image is answered by the mean of the probabilities of several looks at it.

    flip      the image and its mirror image
    ten_crop  its centre and its four corners, and their mirror images: Krizhevsky et al. 2012

Axis letters: N images, C classes, V looks.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from kdal_cli.images.augment import Place, Resident
from kdal_cli.inference.predict import predict_logits
from kdal_cli.network import Network

Tta = Literal["none", "flip", "ten_crop"]

PLACES: dict[Tta, tuple[Place, ...]] = {
    "flip": ("whole",),
    "ten_crop": ("centre", (0, 0), (0, 1), (1, 0), (1, 1)),
}


def averaged_logits(network: Network, images: Resident, ids: Tensor, tta: Tta) -> Tensor:
    """log of the mean over V looks of softmax, (N, C); with `none` the logits of the one look."""
    if tta == "none":
        return predict_logits(network, images, ids)
    looks = [images.looked_at(place, mirrored=mirrored) for place in PLACES[tta] for mirrored in (False, True)]
    total: Tensor | None = None
    for look in looks:
        log_probs = predict_logits(network, look, ids).log_softmax(1)
        total = log_probs if total is None else torch.logaddexp(total, log_probs)
    assert total is not None
    return total - math.log(len(looks))
