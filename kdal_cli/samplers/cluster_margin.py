"""Ask where the two most likely classes are close, in one cluster after the other."""

import math
from itertools import islice

import torch
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence, Space
from kdal_cli.inference.ranking import shuffled, top
from kdal_cli.samplers._kmeans import in_turns, members
from kdal_cli.samplers.margin import margin_score
from kdal_cli.types import Query
from kdal_cli.values import Count, Positive

PART = 2000
"""Images that are clustered together: the time and the memory of a tree grow with their square."""


def agglomerate(points: Tensor, size: int) -> list[Tensor]:
    """Clusters of average linkage, of `size` points on average, in parts of `PART` points: (n, D) -> rows of each."""
    from sklearn.cluster import AgglomerativeClustering  # here: it takes a second to import

    clusters = []
    for rows in torch.arange(len(points)).split(PART):
        labels, count = torch.zeros_like(rows), math.ceil(len(rows) / size)
        if count > 1:
            tree = AgglomerativeClustering(count, linkage="average")
            labels = torch.from_numpy(tree.fit_predict(points[rows].cpu().numpy()))
        clusters += [rows[some] for some in members(labels, count)]
    return clusters


def cluster_margin(
    pool: Evidence, k: int, rng: Generator, *, space: Space = "features", candidates: Positive = 10.0, size: Count = 10
) -> Query:
    """Of the `candidates`·k least margins, a random one of each cluster in turns, the smallest cluster first.

    Citovsky et al. 2021, arXiv:2107.14263. The paper clusters the pool once, by agglomeration with average linkage up
    to a distance, and then takes candidates; here the candidates of each query are clustered, by the same linkage,
    down to `size` of them a cluster, in random parts of 2,000. score: `margin_score`.

    Costs N·C time for margins; with n = candidates·k, 2,000·n·D time and N·D + 2,000² memory for clusters.

    Helps in large queries, which margin fills with images that tell the same. Hurts in small ones, where more than the
    least margins are candidates and a random one of them is taken; small clusters may be outliers.
    """
    points, _ = pool.in_space(space)
    unsure = top(margin_score(pool.logits), math.ceil(max(1, candidates) * k), pool.ids, rng)  # (n,)
    order = shuffled(pool.ids[unsure.rows], rng)
    clusters = agglomerate(points[unsure.rows[order].to(points.device)], size)
    clusters = sorted([rows.tolist() for rows in clusters], key=lambda rows: (len(rows), rows[0]))
    turns = in_turns([iter(rows) for rows in clusters])
    picks = order[list(islice(turns, k))]
    return Query(unsure.rows[picks], unsure.scores[picks])
