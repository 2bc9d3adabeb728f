"""Ask for typical images of those clusters that have no label yet."""

from collections.abc import Iterator
from itertools import chain, islice

import torch
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence, Space
from kdal_cli.inference.ranking import shuffled
from kdal_cli.samplers._kmeans import cluster, in_turns, members
from kdal_cli.samplers._rows import Rows
from kdal_cli.types import Query
from kdal_cli.values import Count, Natural

CHUNK = 1024
"""Images of a cluster whose distances to all others of it are held at a time."""

ROUNDING = 2e-6
"""Of ‖x‖²: a squared distance below it cannot be told from 0 when it comes from products in float32."""


def typicality(points: Tensor, neighbours: int) -> Tensor:
    """1 ÷ mean distance to the `neighbours` nearest others, at most n/2 of them: (n, D) -> (n,); of one point 0."""
    if len(points) == 1:
        return points.new_zeros(1)
    points = points - points.mean(0)
    size, means = points.square().sum(1), []  # (n,)
    for start in range(0, len(points), CHUNK):
        own = size[start : start + CHUNK, None]  # (chunk, 1)
        squared = torch.addmm(size, points[start : start + CHUNK], points.T, alpha=-2) + own  # (chunk, n)
        squared.diagonal(start).fill_(torch.inf)  # no one is a neighbour of itself
        near = squared.topk(min(neighbours, len(points) // 2), largest=False).values
        means.append(torch.where(near > ROUNDING * own, near, 0).sqrt().mean(1))
    return 1 / torch.cat(means)


def typiclust(
    pool: Evidence,
    k: int,
    rng: Generator,
    *,
    space: Space = "features",
    clusters: Count = 500,
    neighbours: Count = 20,
    smallest: Natural = 6,
    normalize: bool = True,
) -> Query:
    """The most typical image of each cluster, those with the fewest labels first, of these the largest, in turns.

    Hacohen et al. 2022, arXiv:2202.02794: min(M + k, `clusters`) clusters of pool and labelled images, by k-means, and
    typicality = 1 ÷ mean distance to the 20 nearest, or the nearer half, of those of its cluster that have no label;
    both on unit vectors, as in the authors' code. That code squares the distance, and computes it anew after each pick;
    here it is the paper's, and computed once. Clusters smaller than `smallest` wait until all others are used up; the
    authors' code drops them. score: the typicality.

    Costs (N + M)·K·D time for an iteration of k-means, then n²·D for each cluster of n images that is asked; memory
    a few numbers an image, 40·K·D, and n·D.

    Helps when labels are few, fewer than some tens a class, and `space` is an embedding learnt without labels. Hurts
    when labels are many: typical images are those that the model knows.
    """
    order = shuffled(pool.ids, rng)  # (N,)
    table, labelled = pool.in_space(space)
    labelled_rows = len(table) + torch.arange(len(labelled))
    points = Rows(table, labelled, order=torch.cat([order, labelled_rows]), unit=normalize)  # (N + M, D)
    assignment, _ = cluster(points, min(len(labelled) + k, clusters), rng)
    sizes = assignment.bincount().tolist()  # (K,)
    labels = assignment[len(order) :].bincount(minlength=len(sizes)).tolist()  # (K,)
    unlabelled = members(assignment[: len(order)], len(sizes))

    def most_typical_first(c: int) -> Iterator[tuple[int, float]]:
        rows = unlabelled[c]  # (n,)
        if len(rows):
            scores, best = (
                typicality(points[rows.to(points.device)], neighbours).cpu().sort(descending=True, stable=True)
            )
            yield from zip(rows[best].tolist(), scores.tolist(), strict=True)

    by_need = sorted(range(len(sizes)), key=lambda c: (labels[c], -sizes[c]))
    large = in_turns([most_typical_first(c) for c in by_need if sizes[c] >= smallest])
    small = in_turns([most_typical_first(c) for c in by_need if sizes[c] < smallest])
    rows, scores = zip(*islice(chain(large, small), k), strict=True)
    return Query(order[list(rows)], torch.tensor(scores, dtype=torch.float64))
