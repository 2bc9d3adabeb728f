"""Do two sets of features come from one distribution?

Axis letters: N, M images of the two sets, D features, P permutations. Everything is computed in float64 on the CPU.
"""

import torch
from torch import Tensor

PERMUTATIONS = 500


def mmd(one: Tensor, other: Tensor, rng: torch.Generator, permutations: int = PERMUTATIONS) -> tuple[float, float]:
    """(squared maximum mean discrepancy, p value of a permutation test). one (N, D), other (M, D), N and M at least 2.

        MMD² = mean_{i≠j} k(x_i, x_j) + mean_{i≠j} k(y_i, y_j) - 2 mean_{ij} k(x_i, y_j)    k = exp(-d² / 2 median²)

    unbiased, so that it may be below 0. p = (1 + how many permutations give as much) / (1 + P). Gretton, Borgwardt,
    Rasch, Schölkopf, Smola, "A Kernel Two-Sample Test", JMLR 2012.
    """
    if min(len(one), len(other)) < 2:
        raise ValueError(f"two images of each are needed, not {len(one)} and {len(other)}")
    x = torch.cat([one, other]).double()  # (N + M, D)
    squares = torch.cdist(x, x).square()  # (N + M, N + M)
    median = squares[squares > 0].median() if (squares > 0).any() else torch.ones(())
    kernel = torch.exp(-squares / (2 * median))
    kernel.fill_diagonal_(0)
    n, total = len(one), len(x)
    orders = torch.stack([torch.arange(total), *(torch.randperm(total, generator=rng) for _ in range(permutations))])
    first = torch.zeros(len(orders), total, dtype=torch.float64).scatter_(1, orders[:, :n], 1.0)  # (P + 1, N + M)
    values = _statistic(kernel, first)
    more = int((values[1:] >= values[0] - 1e-12).sum())
    return float(values[0]), (1 + more) / (1 + permutations)


def _statistic(kernel: Tensor, first: Tensor) -> Tensor:
    """MMD² of each division (P, N + M) of the images into a first set, 1, and a second, 0."""
    second = 1 - first
    n, m = first[0].sum(), second[0].sum()
    near, far = first @ kernel, second @ kernel  # (P, N + M)
    within = (near * first).sum(1) / (n * (n - 1)) + (far * second).sum(1) / (m * (m - 1))
    return within - 2 * (near * second).sum(1) / (n * m)
