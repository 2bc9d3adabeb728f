"""Average linkage against its definition, and clusters taken in turns. n images, D features."""

import itertools
import math
from collections import Counter

import pytest
import torch
from torch import Generator, Tensor

from kdal_cli.samplers import cluster_margin as module
from kdal_cli.samplers.cluster_margin import agglomerate, cluster_margin
from kdal_cli.samplers.margin import margin_score


def rng(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def average_linkage(points: Tensor, count: int) -> set[frozenset[int]]:
    """Merges the two clusters of the least mean distance, again and again."""
    clusters = [frozenset([i]) for i in range(len(points))]
    while len(clusters) > count:
        a, b = min(
            itertools.combinations(clusters, 2),
            key=lambda ab: sum(math.dist(points[i], points[j]) for i in ab[0] for j in ab[1]) / len(ab[0]) / len(ab[1]),
        )
        clusters = [c for c in clusters if c not in (a, b)] + [a | b]
    return set(clusters)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [1, 3, 4, 13, 50])
def test_clusters_are_those_of_average_linkage(seed: int, size: int) -> None:
    points = torch.randn(13, 3, generator=rng(seed))
    found = {frozenset(rows.tolist()) for rows in agglomerate(points, size)}
    assert found == average_linkage(points, math.ceil(13 / size))


def test_many_are_clustered_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART", 5)
    points = torch.randn(11, 3, generator=rng(9))
    found = {frozenset(rows.tolist()) for rows in agglomerate(points, 2)}
    parts = [
        {frozenset(i + start for i in c) for c in average_linkage(points[start : start + 5], 3)} for start in (0, 5)
    ]
    assert found == {*parts[0], *parts[1], frozenset([10])}


LINE = torch.tensor([[0.0], [20.0], [20.1], [40.0], [40.1], [40.2], [40.3], [40.4]])
"""Clusters of one, two and five."""


def test_clusters_take_turns_the_smallest_first(make_pool) -> None:
    logits = torch.randn(8, 4, generator=rng(0))
    for seed in range(5):
        query = cluster_margin(make_pool(logits, LINE), 8, rng(seed), size=3)
        blobs = [0 if row == 0 else 1 if row < 3 else 2 for row in query.rows.tolist()]
        assert blobs == [0, 1, 2, 1, 2, 2, 2, 2]
        assert torch.equal(query.scores, margin_score(logits)[query.rows])


def test_within_a_cluster_any_candidate_is_as_likely(make_pool) -> None:
    pool = make_pool(torch.randn(8, 4, generator=rng(1)), LINE)
    third = Counter(int(cluster_margin(pool, 3, rng(seed), size=3).rows[2]) for seed in range(300))
    assert sorted(third) == [3, 4, 5, 6, 7]
    assert all(abs(count - 60) < 5 * math.sqrt(48) for count in third.values())


@pytest.mark.parametrize(("candidates", "count"), [(0.1, 4), (1, 4), (1.3, 6), (2.5, 10), (99, 30)])
def test_only_the_least_margins_are_candidates(make_pool, candidates: float, count: int) -> None:
    logits, features = torch.randn(30, 5, generator=rng(2)), torch.randn(30, 3, generator=rng(3))
    least = set(margin_score(logits).topk(count).indices.tolist())
    queries = [
        cluster_margin(make_pool(logits, features), 4, rng(s), candidates=candidates, size=99) for s in range(40)
    ]
    assert set().union(*(query.rows.tolist() for query in queries)) == least


def test_of_clusters_of_one_size_any_may_come_first(make_pool) -> None:
    """However near to each other the images in them are, which is what the tree is ordered by."""
    pairs = torch.tensor([[0.0], [0.1], [20.0], [21.0], [40.0], [42.0]])
    pool = make_pool(torch.randn(6, 4, generator=rng(4)), pairs)
    firsts = Counter(int(cluster_margin(pool, 1, rng(seed), size=2).rows[0]) // 2 for seed in range(300))
    assert all(abs(firsts[pair] - 100) < 5 * math.sqrt(67) for pair in range(3))
