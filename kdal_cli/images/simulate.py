"""Pools with the troubles of real ones, made from a data set that has none: long tails and duplicates."""

from dataclasses import replace

import torch
from torch import Generator, Tensor

from kdal_cli.dataset import ImageData


def long_tail(labels: Tensor, ratio: float, rng: Generator) -> Tensor:
    """Ids (n,), sorted, of a subset with classes from many to few: n_c = n_max · ratio^(−c/(C−1)), at least one.

    labels: (N,) of classes 0 to C − 1, n_max the largest class; class C − 1 is the rarest. A class that has fewer
    images keeps them all. Cui et al. 2019, arXiv:1901.05555.
    """
    counts = labels.bincount()
    last, largest = max(1, len(counts) - 1), int(counts.max())
    kept = []
    for c in range(len(counts)):
        ids = (labels == c).nonzero().flatten()
        wanted = max(1, round(largest * ratio ** (-c / last)))
        kept.append(ids[torch.randperm(len(ids), generator=rng)[:wanted]])
    return torch.cat(kept).sort().values


def with_duplicates(data: ImageData, pool: Tensor, share: float, rng: Generator) -> tuple[ImageData, Tensor]:
    """The data set with copies of images of the pool as new ids behind the others, and the pool with these.

    share: copies for each image of the pool, 1 doubling it; which images are copied is drawn, some more than once.
    All pixels are copied once in main memory.
    """
    copies = pool[torch.randint(len(pool), (round(share * len(pool)),), generator=rng)]  # (n,)
    n = len(data.train)
    longer = data.train.copied(torch.cat([torch.arange(n), copies]))
    return replace(data, train=longer), torch.cat([pool, torch.arange(n, n + len(copies))])
