"""Ask for one image of each cluster of the pool."""

import torch
from torch import Generator

from kdal_cli.inference.evidence import Evidence, Space
from kdal_cli.inference.ranking import shuffled, top
from kdal_cli.samplers._kmeans import cluster, nearest_to_centres
from kdal_cli.samplers._rows import Rows
from kdal_cli.samplers.margin import margin_score
from kdal_cli.types import Query
from kdal_cli.values import Natural


def kmeans(pool: Evidence, k: int, rng: Generator, *, space: Space = "features", prefilter: Natural = 0) -> Query:
    """k clusters by k-means, and the image nearest to each centre; with `prefilter` β, of the β·k least margins alone.

    Zhdanov 2019, arXiv:1901.05954, whose weighted form this is not: within the prefilter every image counts the same.
    Where fewer than k images differ, others fill up, at random or by margin. score: the images in the cluster.

    Costs N·k·D time for an iteration of k-means, of the β·k images where there is a prefilter; memory a few
    numbers an image, and 40·k·D.

    Helps before there is a model to trust, and with a prefilter in large queries, which margin fills with images that
    tell the same. Hurts without one when the model is good: most clusters hold what it already knows.
    """
    table, _ = pool.in_space(space)
    order = shuffled(pool.ids, rng)  # (N,)
    if prefilter:
        order = top(margin_score(pool.logits), prefilter * k, pool.ids, rng).rows  # (β·k,)
    points = Rows(table, order=order)
    assignment, centres = cluster(points, min(k, len(points)), rng)
    sizes, largest = assignment.bincount().sort(descending=True, stable=True)  # (K,)
    rows = nearest_to_centres(points, centres, assignment)[largest].cpu()
    spare = torch.ones(len(order), dtype=torch.bool).index_fill(0, rows, False).nonzero()[:, 0][: k - len(rows)]
    scores = torch.cat([sizes.cpu(), torch.zeros_like(spare)])
    return Query(order[torch.cat([rows, spare])], scores.double())
