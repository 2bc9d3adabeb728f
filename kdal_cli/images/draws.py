"""Numbers that follow from an address alone: (seed, image, view) -> as many as are wanted, on any device the same.

A counter-based generator: the address is mixed by the finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast
splittable pseudorandom number generators"). In torch whole numbers of 64 bits wrap around, on every device alike.

Axis letters: B batch, n draws.
"""

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - 2**64
FIRST, SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
"""The constants of SplitMix64, as signed numbers."""

BITS = 53
"""Of a draw: as many as a float64 holds."""


def uniform(seed: int, ids: Tensor, views: Tensor, n: int) -> Tensor:
    """n numbers from 0 up to, but not including, 1 for view `views` (B,) of image `ids` (B,): (B, n) float64."""
    address = _mixed(_mixed(ids.new_full((), seed) * GOLDEN + ids) * GOLDEN + views)  # (B,)
    counters = torch.arange(1, n + 1, device=ids.device) * GOLDEN  # (n,)
    return _shifted(_mixed(address[:, None] + counters), 64 - BITS).double() * 2.0**-BITS


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * FIRST
    x = (x ^ _shifted(x, 27)) * SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """To the right, zeros coming in from the left."""
    return (x >> bits) & (2 ** (64 - bits) - 1)
