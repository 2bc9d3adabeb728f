"""One image of each cluster, the nearest to its middle. N images, D features."""

import math

import pytest
import torch
from torch import Generator, Tensor

from kdal_cli.samplers.kmeans import kmeans
from kdal_cli.samplers.margin import margin_score

CORNERS = torch.tensor([[0.0, 0.0], [30.0, 0.0], [0.0, 40.0], [50.0, 50.0]])


def rng(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def blobs(seed: int, *sizes: int) -> tuple[Tensor, Tensor]:
    """Features (N, 2) around corners, and the blob of each, in a random order."""
    belongs = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    belongs = belongs[torch.randperm(len(belongs), generator=rng(seed))]
    return CORNERS[belongs] + torch.randn(len(belongs), 2, generator=rng(seed + 1)), belongs


def test_of_each_blob_it_takes_the_image_nearest_to_the_middle_the_largest_blob_first(make_pool) -> None:
    features, belongs = blobs(0, 9, 30, 14, 5)
    expected = []
    for blob in (1, 2, 0, 3):
        middle = features[belongs == blob].mean(0)
        expected.append(min((belongs == blob).nonzero()[:, 0].tolist(), key=lambda i: math.dist(features[i], middle)))
    queries = [kmeans(make_pool(torch.zeros(58, 2), features), 4, rng(seed)) for seed in range(10)]
    found = [query for query in queries if query.rows.tolist() == expected]
    assert len(found) >= 5  # k-means may start with two centres in one blob
    assert found[0].scores.tolist() == [30, 14, 9, 5]


def test_copies_come_last_at_random_with_score_0(make_pool) -> None:
    features = CORNERS[torch.arange(20) % 4]
    queries = [kmeans(make_pool(torch.zeros(20, 2), features), 9, rng(seed)) for seed in range(10)]
    for query in queries:
        assert sorted((query.rows[:4] % 4).tolist()) == [0, 1, 2, 3]
        assert query.scores.tolist() == [5] * 4 + [0] * 5
        assert len(query.rows.unique()) == 9
    assert len({tuple(query.rows[4:].tolist()) for query in queries}) == 10


@pytest.mark.parametrize("prefilter", [1, 3])
def test_a_prefilter_leaves_only_the_least_margins(make_pool, prefilter: int) -> None:
    logits, features = torch.randn(40, 5, generator=rng(2)), torch.randn(40, 3, generator=rng(3))
    query = kmeans(make_pool(logits, features), 6, rng(0), prefilter=prefilter)
    least = margin_score(logits).topk(6 * prefilter).indices.tolist()
    assert set(query.rows.tolist()) <= set(least)
    if prefilter == 3:
        others = [kmeans(make_pool(logits, features), 6, rng(seed), prefilter=3).rows for seed in range(5)]
        assert len({tuple(sorted(rows.tolist())) for rows in others}) > 1


def test_copies_within_a_prefilter_are_filled_up_by_margin(make_pool) -> None:
    logits = torch.stack([torch.arange(20.0), torch.zeros(20)], 1)  # the margin grows with the row
    query = kmeans(make_pool(logits, torch.zeros(20, 2)), 5, rng(0), prefilter=3)
    first, *rest = query.rows.tolist()
    assert rest == [row for row in range(5) if row != first][:4]


def test_distances_are_measured_in_the_space_that_is_named(make_pool) -> None:
    sure = torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]])[torch.arange(30) % 3]
    pool = make_pool(sure, torch.randn(30, 4, generator=rng(4)))
    assert sorted((kmeans(pool, 3, rng(0), space="probabilities").rows % 3).tolist()) == [0, 1, 2]
    assert kmeans(pool, 5, rng(0), space="probabilities").scores.tolist() == [10, 10, 10, 0, 0]
    assert kmeans(pool, 5, rng(0)).scores.min() > 0
