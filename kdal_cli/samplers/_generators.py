"""Randomness for a sampler within a sampler."""

import torch
from torch import Generator


def fork(rng: Generator) -> Generator:
    """A CPU generator of its own, seeded by one number from `rng`, which the caller may go on using."""
    return torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=rng)))
