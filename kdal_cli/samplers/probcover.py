"""Ask for images with many others around them that are near no label."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence, Space
from kdal_cli.inference.ranking import shuffled
from kdal_cli.samplers._kmeans import cluster
from kdal_cli.samplers._limits import refuse_more
from kdal_cli.types import Query
from kdal_cli.values import Positive, Share

CHUNK = 2048
"""Rows and columns of a block of distances; edges are counted and never kept."""

FRONT = 32
"""Balls that picks come from between two passes over all points."""

MOST = 200_000
"""Candidates: so many take a quarter of an hour of one core with 512 features, and twice as many four times as long."""

ASKED = 2000
"""Images whose balls purity is estimated from: to half a percentage point."""


class Balls:
    """Open balls of one radius around N points (N, D): ‖x − y‖ < δ, or x·y > (‖x‖² + ‖y‖² − δ²) ÷ 2."""

    def __init__(self, points: Tensor, radius: float) -> None:
        self.points = points
        self.edge = (points.square().sum(1) - radius**2 / 2) / 2  # (N,)

    def hold(self, rows: Tensor, start: int = 0) -> Iterator[Tensor]:
        """Which balls from `start` on hold the points of `rows` (m,), some balls after the other: (CHUNK, m) each."""
        points, edge = self.points[rows], self.edge[rows]
        for part, own in zip(self.points[start:].split(CHUNK), self.edge[start:].split(CHUNK), strict=True):
            yield torch.addmm(edge, part, points.T, beta=-1) > own[:, None]

    def count(self, rows: Tensor) -> Tensor:
        """How many of the points of `rows` (m,) each ball holds: (N,)."""
        counts = torch.zeros_like(self.edge, dtype=torch.int64)
        for some in rows.split(CHUNK) if len(rows) else ():
            counts += torch.cat([held.sum(1) for held in self.hold(some)])
        return counts

    def count_all(self) -> Tensor:
        """How many points each ball holds, (N,): each pair is measured once, as distance is the same both ways."""
        counts = torch.zeros_like(self.edge, dtype=torch.int64)
        for rows in torch.arange(len(counts), device=counts.device).split(CHUNK):
            start = first = int(rows[0])
            for held in self.hold(rows, first):
                counts[start : start + CHUNK] += held.sum(1)
                counts[rows] += held.sum(0) if start > first else 0
                start += CHUNK
        return counts


def cover(balls: Balls, covered: Tensor, k: int) -> tuple[list[int], list[int]]:
    """Greedy cover: again and again the ball that holds most points not `covered` (N,), of equal ones the first.

    -> at most k rows, and how many each of them newly holds. Ends when all is covered. Picks come from the balls that
    hold most, as long as no other can hold more; counts only fall, and then all of them are brought up to date.
    """
    covered, row = covered.clone(), torch.arange(len(covered), device=covered.device)
    few = 4 * covered.sum() < len(row)  # then it is less to count all, half of it by symmetry, and to take these away
    count = balls.count_all() - balls.count(row[covered]) if few else balls.count(row[~covered])  # (N,)
    rank = count.clamp(min=1) * len(row) - row  # (N,) no two equal
    rows, gains = [], []
    while len(rows) < k and not covered.all():
        line, before = rank.topk(min(FRONT + 1, len(row))), covered.clone()
        front, rest = line.indices[:FRONT], line.values[FRONT:].sum().clamp(min=0)  # (F,), the best of the others
        held = torch.cat(list(balls.hold(front)))  # (N, F) and whom they hold, as distance is the same both ways
        held[front, row[: len(front)]] = True  # itself, whatever the rounding
        gain = held[~covered].sum(0)  # (F,)
        while len(rows) < k and (gain * len(row) - front).max() > rest:
            best = int((gain * len(row) - front).argmax())
            rows.append(int(front[best]))
            gains.append(int(gain[best]))
            new = held[:, best] & ~covered
            covered |= new
            gain -= held[new].sum(0)
        rank -= balls.count(row[covered & ~before]) * len(row)
        rank[front] = gain * len(row) - front
    return rows, gains


def pure_radius(points: Tensor, assignment: Tensor, alpha: float, rng: Generator) -> float:
    """The largest radius at which a share `alpha` of open balls holds points of one cluster alone.

    A ball is pure up to the nearest point of another cluster, so it is a quantile of that distance, over all points or
    `ASKED` of them at random. Infinite with one cluster.
    """
    some = torch.randperm(len(points), generator=rng)[:ASKED].to(points.device)
    size = points[some].square().sum(1, keepdim=True)  # (n, 1)
    nearest = torch.full_like(size[:, 0], torch.inf)  # (n,)
    for part, own in zip(points.split(CHUNK), assignment.split(CHUNK), strict=True):
        squared = torch.addmm(part.square().sum(1), points[some], part.T, alpha=-2) + size  # (n, chunk)
        squared[assignment[some][:, None] == own] = torch.inf
        nearest = torch.minimum(nearest, squared.amin(1))
    impure = len(some) - math.ceil(alpha * len(some) - 1e-9)
    return math.inf if impure == len(some) else math.sqrt(max(0.0, float(nearest.sort().values[impure])))


def probcover(
    pool: Evidence,
    k: int,
    rng: Generator,
    *,
    space: Space = "features",
    delta: Positive | None = None,
    alpha: Share = 0.95,
    normalize: bool = True,
) -> Query:
    """Greedy cover of the pool by balls of radius δ: argmax_x of the images nearer than δ to x and to nothing chosen.

    Yehuda et al. 2022, arXiv:2205.11320. What is near a labelled image is covered. δ is `delta`, or the largest radius
    at which a share `alpha` of balls is pure: of one cluster of k-means, as many clusters as classes. Unit vectors, as
    in the authors' code. When all is covered, others fill up at random. score: images that the ball newly covers.

    Costs N·(N + newly covered)·D time, in matrix products: a ball's count falls as images are covered, and edges are
    never kept. Memory N·D. More than 200,000 candidates are refused beforehand.

    Helps when labels are few and `space` is an embedding learnt without labels. Hurts with
    an ill-chosen δ, to which it is sensitive (Bae et al. 2024, arXiv:2407.12212), and when labels are many enough to
    cover all.
    """
    refuse_more(pool, MOST, "probcover", "it measures how far each lies from every other")
    order = shuffled(pool.ids, rng)  # (N,)
    points, labelled = pool.in_space(space)
    points = torch.cat([points[order.to(points.device)], labelled])  # (N + M, D)
    points = F.normalize(points, dim=1) if normalize else points
    points = points - points.mean(0)  # products keep their digits near the origin
    if delta is None:
        assignment, _ = cluster(points, pool.classes, rng)
        delta = pure_radius(points, assignment, alpha, rng)
    known = torch.arange(len(order), len(points), device=points.device)  # (M,)
    covered = Balls(points, delta).count(known)[: len(order)] > 0  # (N,)
    rows, gains = cover(Balls(points[: len(order)], delta), covered, k)
    spare = torch.ones(len(order), dtype=torch.bool).index_fill(0, torch.tensor(rows, dtype=torch.int64), False)
    rest = spare.nonzero()[:, 0][: k - len(rows)]
    picks = torch.cat([torch.tensor(rows, dtype=torch.int64), rest])
    return Query(order[picks], torch.tensor(gains + [0] * len(rest), dtype=torch.float64))
