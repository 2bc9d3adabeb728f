"""The best k of a score, with ties broken by a seeded key of each image and not by where it happens to lie."""

import torch
from torch import Generator, Tensor

from kdal_cli.types import Query


def top(scores: Tensor, k: int, ids: Tensor, rng: Generator) -> Query:
    """The min(k, N) highest `scores` (N,), highest first, as a Query.

    Equal scores are ordered by a random key of the image's id, so that permuting the pool changes nothing and no class
    that comes first in the data is favoured.
    """
    scores = scores.detach().double().cpu()
    by_key = shuffled(ids, rng)  # (N,)
    order = by_key[scores[by_key].argsort(descending=True, stable=True)]
    rows = order[: min(k, len(order))]
    return Query(rows, scores[rows])


def shuffled(ids: Tensor, rng: Generator) -> Tensor:
    """All rows in a random order that depends on the ids, (N,) distinct, and not on where each of them lies -> (N,)."""
    salt = torch.randint(2**62, (), generator=rng)
    return _scramble(ids.cpu() ^ salt).argsort(stable=True)


def _scramble(x: Tensor) -> Tensor:
    """A bijection of int64 that looks random: the finaliser of splitmix64 (Steele et al. 2014), modulo 2⁶⁴."""
    x = (x ^ _shift(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _shift(x, 27)) * -0x6B2FB644ECCEEE15
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical shift right; torch's own keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
