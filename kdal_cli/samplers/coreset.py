"""Ask for images that leave none far from a labelled one."""

import torch
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence, Space
from kdal_cli.inference.ranking import highest, keys
from kdal_cli.samplers._distance import Cloud
from kdal_cli.types import Query

FRONT = 256
"""How many of the farthest points are followed from pick to pick between two passes over all points."""

CHOSEN = -1.0
"""The squared distance of what is chosen: behind its copies, which lie at 0."""


def k_center(points: Tensor, centres: Tensor, k: int, key: Tensor) -> Query:
    """min(k, N) of `points` (N, D), each the farthest from `centres` (M, D) and from all before it; score: its d².

    Of equally far points the one with the lowest `key` (N,) comes first. Distances only shrink, so what they were at
    the last pass over the points bounds what they are now: picks come from the front, the farthest points, until the
    next in line may be farther. The picks are those of a pass after each.
    """
    cloud = Cloud(points)
    bound = torch.full((len(points),), torch.inf, dtype=torch.float64)  # (N,) no less than d²
    rows: list[int] = []
    scores: list[float] = []
    fresh = centres  # (P, D) not yet accounted for
    while len(rows) < min(k, len(points)):
        bound = torch.minimum(bound, cloud.bound(fresh))
        line = highest(bound, FRONT + 1, key)
        front, behind = line[:FRONT], line[FRONT:]
        bound[front] = torch.minimum(bound[front], cloud.distance(front, torch.cat([centres, points[rows]])))
        line = line[key[line].argsort()]  # the first of equals is the one of the lowest key
        place = points[line].double().cpu()  # (n, D)
        place[torch.isin(line, behind)] = torch.inf  # stands for all behind it, and no pick makes its bound less
        distance, before = bound[line], len(rows)
        while len(rows) < min(k, len(points)) and line[best := int(distance.argmax())] not in behind:
            rows.append(int(line[best]))
            scores.append(float(distance[best]))
            distance = torch.minimum(distance, (place - place[best]).square().sum(1))
            distance[best] = CHOSEN
        bound[line], fresh = distance, points[rows[before:]]
    return Query(torch.tensor(rows, dtype=torch.int64), torch.tensor(scores, dtype=torch.float64))


def coreset(pool: Evidence, k: int, rng: Generator, *, space: Space = "features") -> Query:
    """k-center greedy: again and again the image farthest from everything labelled or chosen, argmax_x min_c ‖x − c‖².

    Sener and Savarese 2018, arXiv:1708.00489. The score is that squared distance. Before anything is labelled it starts
    at a random image, of score infinity.

    Costs (M + k)·N·D time, nearly all of it in matrix products, and memory of a few numbers an image and centre.

    Helps when k is large: no image of a query repeats another, and none of the pool lies more than twice as far from a
    labelled one as the best query would leave it (Gonzalez 1985). Hurts where outliers are, the farthest of all, and
    where what is far is not what is unsure: it does not ask how sure the scorer is.
    """
    points, centres = pool.in_space(space)
    return k_center(points, centres, k, keys(pool.ids, rng))
