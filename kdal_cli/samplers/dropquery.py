"""Ask where a prediction hangs on few features, and for different such images."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence, Space
from kdal_cli.inference.ranking import highest, shuffled
from kdal_cli.samplers._kmeans import cluster, nearest_to_centres
from kdal_cli.types import Query
from kdal_cli.values import Count, Within

CHUNK = 4096
"""Images whose features are dropped at a time."""

Rate = Annotated[float, Within(0, 0.99)]
"""A fraction of the features, of which some must be left."""


def dropped(features: Tensor, rate: float, rng: Generator) -> Tensor:
    """Each number 0 with probability `rate` and else divided by 1 − rate, so that its mean stays: (n, D) -> (n, D)."""
    kept = torch.rand(features.shape, generator=rng) >= rate
    return features * kept.to(features.device) / (1 - rate)


def flips(pool: Evidence, order: Tensor, passes: int, rate: float, rng: Generator) -> Tensor:
    """How many of so many passes with dropped features change the predicted label, (N,), of rows in an `order` (N,)."""
    features = pool.features
    parts = order.to(features.device).split(CHUNK)
    labels = [pool.classify(features[rows].float()).argmax(1) for rows in parts]
    count = torch.zeros(len(order), dtype=torch.int64)
    for _ in range(passes):  # one pass over all images after another, so that no number depends on the CHUNK
        again = [pool.classify(dropped(features[rows].float(), rate, rng)).argmax(1) for rows in parts]
        count += (torch.cat(again) != torch.cat(labels)).cpu()
    return count


def one_of_each_cluster(points: Tensor, scores: Tensor, candidates: Tensor, k: int, rng: Generator) -> Tensor:
    """min(k, N) rows: of k clusters of the candidates the nearest to each centre, then others by score.

    points: (N, D), of which the direction counts. scores: (N,), highest first within both parts. candidates: (N,) bool.
    The others are needed when fewer than k candidates differ.
    """
    few = candidates.nonzero()[:, 0]  # (n,)
    first = few
    if len(few):
        directions = F.normalize(points[few.to(points.device)].float())
        assignment, centres = cluster(directions, k, rng)
        first = few[nearest_to_centres(directions, centres, assignment).cpu()]  # (K,)
    first = first[highest(scores[first], k, first)]
    left = torch.ones_like(candidates).index_fill(0, first, False).nonzero()[:, 0]  # (N − K,)
    return torch.cat([first, left[highest(scores[left], k - len(first), left)]])


def dropquery(
    pool: Evidence, k: int, rng: Generator, *, passes: Count = 3, rate: Rate = 0.75, space: Space = "features"
) -> Query:
    """One image of each of k clusters of those whose predicted label flips in more than half of the `passes`.

    A pass sets each of the features z to 0 with probability `rate` and asks the last layer again. Clusters are made by
    k-means of directions in `space`, and the image nearest to a centre stands for it. Gupte et al. 2024,
    arXiv:2401.14555. Where fewer than k candidates differ, the images that flip most often follow, of equal ones any.
    The authors' code already counts a single flip when there are fewer than 25 k, and fills up at random. score: the
    share of passes that flip.

    Time passes·N·D·C and k-means of n candidates, n·k·D an iteration; memory N·D.

    Helps with few labels on features of a strong pretrained model, for which it was made: it asks of the last layer
    alone, and a model without dropout will do. Hurts where the features are few or trained with dropout: then labels
    flip for all images or for none, and what is left is k-means or chance.
    """
    order = shuffled(pool.ids, rng)  # (N,) so that a mask belongs to an image, wherever it lies
    count = flips(pool, order, passes, rate, rng)  # (N,)
    points = pool.in_space(space)[0]
    rows = one_of_each_cluster(points[order.to(points.device)], count, 2 * count > passes, k, rng)
    return Query(order[rows], count[rows] / passes)
