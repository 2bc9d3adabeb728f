"""The best k of a score, with ties broken by a seeded key of each image and not by where it happens to lie."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from kdal_cli.types import Query

CHUNK = 4096
"""Rows that are scored at a time, so that what is computed on the way stays in a processor's cache."""


def top(scores: Tensor, k: int, ids: Tensor, rng: Generator) -> Query:
    """The min(k, N) highest `scores` (N,), highest first, as a Query.

    Equal scores are ordered by a random key of the image's id, so that permuting the pool changes nothing and no class
    that comes first in the data is favoured.
    """
    scores = scores.detach().double().cpu()
    rows = highest(scores, k, keys(ids, rng))
    return Query(rows, scores[rows])


def by_chunk(score: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    """The score of every row, each for itself, (N, C) -> (N,). It holds no N·C beside the logits, and is the faster."""
    return torch.cat([score(some) for some in logits.split(CHUNK)])


def highest(scores: Tensor, k: int, key: Tensor) -> Tensor:
    """Rows of the min(k, N) highest `scores` (N,), highest first, of equals the lowest `key` (N,); sorts only those."""
    k = min(k, len(scores))
    if k == 0:
        return torch.zeros(0, dtype=torch.int64)
    least = scores.topk(k).values[-1]
    above, level = (scores > least).nonzero()[:, 0], (scores == least).nonzero()[:, 0]
    level = level[key[level].topk(k - len(above), largest=False).indices]
    rows = torch.cat([above, level])
    rows = rows[key[rows].argsort()]
    return rows[scores[rows].argsort(descending=True, stable=True)]


def shuffled(ids: Tensor, rng: Generator) -> Tensor:
    """All rows in a random order that depends on the ids, (N,) distinct, and not on where each of them lies -> (N,)."""
    return keys(ids, rng).argsort(stable=True)


def keys(ids: Tensor, rng: Generator) -> Tensor:
    """A random number of each id, (N,) -> (N,) int64, no two the same. Draws once from `rng`, whatever the pool."""
    salt = torch.randint(2**62, (), generator=rng)
    return _scramble(ids.cpu() ^ salt)


def _scramble(x: Tensor) -> Tensor:
    """A bijection of int64 that looks random: the finaliser of splitmix64 (Steele et al. 2014), modulo 2⁶⁴."""
    x = (x ^ _shift(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _shift(x, 27)) * -0x6B2FB644ECCEEE15
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical shift right; torch's own keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
