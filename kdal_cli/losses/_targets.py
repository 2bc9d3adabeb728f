"""The class that an image is taken to be, for terms that treat one class apart from the others."""

import torch
from torch import Tensor


def targets(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """The labels (L,) of the first L images and the teacher's first choice for the rest, (B, C) -> (B,) int64."""
    return torch.cat([labels, teacher_logits[len(labels) :].argmax(1)])
