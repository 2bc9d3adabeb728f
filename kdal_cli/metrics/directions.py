"""Directions: vectors without their lengths."""

import torch
from torch import Tensor

SHORTEST = 1e-12
"""The length of a vector below which it has no direction."""


def unit(x: Tensor) -> Tensor:
    """x / ‖x‖ along the last axis, (…, n) -> (…, n). A vector without a direction becomes 0 and passes no gradient."""
    square = x.square().sum(-1, keepdim=True)  # (…, 1)
    directed = square > SHORTEST**2
    return torch.where(directed, x / torch.where(directed, square, 1.0).sqrt(), 0.0)
