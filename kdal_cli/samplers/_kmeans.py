"""k-means by matrix products. Axis letters: N points, n of them sampled, D features, K clusters, T tries."""

from collections.abc import Iterator
from itertools import islice
from typing import TypeVar

import torch
from torch import Generator, Tensor

from kdal_cli.samplers._rows import Rows

Item = TypeVar("Item")

CHUNK = 4096
"""Points whose distances to all centres are held at a time."""

TRIES = 64
"""Centres that the start proposes at a time, all from the same distances."""

SAMPLE, SAMPLE_A_CLUSTER = 10_000, 40
"""Centres are learnt from so many points, or from so many a cluster where that is more."""

SETTLED = 0.01
"""The share of points that may still change their cluster when centres count as found; inertia falls by 0.3 % after."""

EXACT = "donot_use_mm_for_euclid_dist"


def cluster(points: Tensor | Rows, k: int, rng: Generator, *, iterations: int = 100) -> tuple[Tensor, Tensor]:
    """k-means (Lloyd 1982) from a start by k-means++ (Arthur and Vassilvitskii 2007): (N, D) -> (N,) int64, (K, D).

    Which cluster each point is in, and the mean of each: K ≤ k, none empty, fewer where fewer than k points differ. Of
    more than `SAMPLE` points, or `SAMPLE_A_CLUSTER` for each cluster, centres are learnt from so many drawn at random,
    and one pass over all of them follows. Time n·k·D for each of at most `iterations`, and N·k·D. Memory n·D, and N.
    """
    middle = mean(points)  # (D,) distances from products keep their digits near the origin alone
    drawn = torch.randperm(len(points), generator=rng)[: max(SAMPLE, SAMPLE_A_CLUSTER * k)]
    sample = points[drawn.to(points.device)].float() - middle  # (n, D)
    centres = lloyd(sample, sample[spread(sample, k, rng)], iterations)
    assignment, centres = move(points, centres, middle)
    return assignment, centres + middle


def mean(points: Tensor | Rows) -> Tensor:
    """(N, D) -> (D,)"""
    sums = torch.stack([part.sum(0, dtype=torch.float64) for part in points.split(CHUNK)])  # (N / CHUNK, D)
    return (sums.sum(0) / len(points)).float()


def lloyd(points: Tensor, centres: Tensor, iterations: int) -> Tensor:
    """Moves centres to the mean of the points nearest to them, again and again: (N, D), (K, D) -> (K or fewer, D)."""
    before = None
    for _ in range(iterations):
        assignment, centres = move(points, centres)
        if before is not None and (assignment != before).float().mean() <= SETTLED:
            break
        before = assignment
    return centres


def move(points: Tensor | Rows, centres: Tensor, origin: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """Points to their nearest centre, centres to the mean of their points; one that has none goes: (N,), (K, D).

    origin: (D,) where centres are counted from.
    """
    found = torch.cat([nearest(part - origin, centres) for part in points.split(CHUNK)])
    used, assignment = found.unique(return_inverse=True)
    sums = centres.new_zeros(len(used), centres.shape[1])  # (K, D)
    for part, own in zip(points.split(CHUNK), assignment.split(CHUNK), strict=True):
        sums.index_add_(0, own, part - origin)
    return assignment, sums / assignment.bincount()[:, None]


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    """Which centre is nearest, (n, D), (K, D) -> (n,): the least ‖c‖² − 2 x·c."""
    size = centres.square().sum(1)  # (K,)
    return torch.cat([torch.addmm(size, part, centres.T, alpha=-2).argmin(1) for part in points.split(CHUNK)])


def apart(points: Tensor | Rows, centres: Tensor, assignment: Tensor) -> Tensor:
    """Squared distance of each point to the centre it is assigned to, from differences: 0 where they are equal. (N,)"""
    parts = zip(points.split(CHUNK), assignment.split(CHUNK), strict=True)
    return torch.cat([(part - centres[own]).square().sum(1) for part, own in parts])


def spread(points: Tensor, k: int, rng: Generator) -> Tensor:
    """Rows (K,) to start from, each drawn in proportion to its squared distance to those before, the first evenly.

    Many at a time and still exact in distribution: distances only shrink, so a row drawn by an old one is kept with the
    probability new ÷ old. Ends early when every point lies where a chosen one does.
    """
    new = torch.randint(len(points), (1,), generator=rng)
    rows, distance = new, torch.full((len(points),), torch.inf)
    while True:
        centres = points[new.to(points.device)]
        distance = torch.minimum(distance, apart(points, centres, nearest(points, centres)).cpu())
        total = distance.double().cumsum(0)  # (N,)
        if len(rows) >= k or total[-1] <= 0:
            return rows.to(points.device)
        where, height = torch.rand(2, TRIES, generator=rng, dtype=torch.float64)
        tries = torch.searchsorted(total, where * total[-1], right=True).clamp(max=len(points) - 1)  # (T,)
        tried = points[tries.to(points.device)]  # (T, D)
        between = torch.cdist(tried, tried, compute_mode=EXACT).square().cpu()  # (T, T)
        new = tries[_kept(between, height * distance[tries])[: k - len(rows)]]
        rows = torch.cat([rows, new])


def _kept(between: Tensor, hurdle: Tensor) -> list[int]:
    """Of tries (T,) those whose squared distance to each one kept before them is above their `hurdle`."""
    kept: list[int] = []
    for i, (squared, height) in enumerate(zip(between.tolist(), hurdle.tolist(), strict=True)):
        if all(squared[j] > height for j in kept):
            kept.append(i)
    return kept


def nearest_to_centres(points: Tensor | Rows, centres: Tensor, assignment: Tensor) -> Tensor:
    """The row nearest to each centre within its cluster, the first of equal ones: -> (K,) distinct rows."""
    order = apart(points, centres, assignment).argsort(stable=True)
    order = order[assignment[order].argsort(stable=True)]  # (N,) by cluster, and by distance within
    counts = assignment.bincount(minlength=len(centres))  # (K,)
    return order[counts.cumsum(0) - counts]


def members(assignment: Tensor, clusters: int) -> list[Tensor]:
    """The rows of each cluster in the order of the points, on the CPU: (N,) -> one (n,) a cluster, perhaps empty."""
    assignment = assignment.cpu()
    return list(assignment.argsort(stable=True).split(assignment.bincount(minlength=clusters).tolist()))


def in_turns(queues: list[Iterator[Item]]) -> Iterator[Item]:
    """The first of each queue, the second of each, and so on until all are empty; none is asked before its turn."""
    while queues:
        left = []
        for queue in queues:
            for item in islice(queue, 1):
                yield item
                left.append(queue)
        queues = left
