"""Typicality against its definition, and which cluster is asked first. N images, M labelled, D features."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence
from kdal_cli.samplers import typiclust as module
from kdal_cli.samplers._rows import Rows
from kdal_cli.samplers.typiclust import typicality, typiclust
from kdal_cli.types import Query

CORNERS = torch.tensor([[0.0, 0.0], [60.0, 0.0], [0.0, 60.0], [80.0, 80.0]])


class Plane:
    """A scorer that knows features alone."""

    def __init__(self, features: Tensor) -> None:
        self.features = features

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(ids), 2), self.features[ids]


def rng(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def choose(features: Tensor, k: int, labelled: int = 0, seed: int = 0, **settings) -> Query:
    """From all but the last `labelled` of the features, which have labels."""
    n, ids = len(features) - labelled, torch.arange(len(features))
    pool = Evidence(ids[:n], ids[n:], torch.zeros(labelled), 2, Plane(features))  # type: ignore[arg-type]
    return typiclust(pool, k, rng(seed), **settings)


def blobs(*belongs: int) -> Tensor:
    """Features (N, 2) around the corners named."""
    return CORNERS[list(belongs)] + torch.randn(len(belongs), 2, generator=rng(1))


def naive(points: list[list[float]], neighbours: int) -> list[float]:
    """Of at most half of the points, as in the authors' code."""
    scores = []
    for i, p in enumerate(points):
        near = sorted(math.dist(p, q) for j, q in enumerate(points) if j != i)[: min(neighbours, len(points) // 2)]
        scores.append(len(near) / sum(near) if near else 0.0)
    return scores


@given(seed=st.integers(0, 10**6), n=st.integers(1, 30), neighbours=st.integers(1, 25))
def test_typicality_is_one_over_the_mean_distance_to_the_nearest(seed: int, n: int, neighbours: int) -> None:
    points = torch.randn(n, 4, generator=rng(seed)) + 100
    assert typicality(points, neighbours).tolist() == pytest.approx(naive(points.tolist(), neighbours), rel=1e-3)


@pytest.mark.parametrize("chunk", [1, 4, 7, 1024])
def test_so_it_is_in_chunks(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    points = torch.randn(23, 6, generator=rng(0))
    assert typicality(points, 5).tolist() == pytest.approx(naive(points.tolist(), 5), rel=1e-4)


def test_of_a_small_cluster_the_nearer_half_counts() -> None:
    """At 0, 1, 3 and 9 the second has neighbours at 1 and 2, the fourth, far from all, at 6 and 8."""
    points = torch.tensor([[0.0], [1.0], [3.0], [9.0]])
    assert typicality(points, 20).tolist() == pytest.approx([2 / 4, 2 / 3, 2 / 5, 2 / 14])


def test_an_image_among_copies_of_itself_is_infinitely_typical() -> None:
    points = torch.randn(3, 50, generator=rng(2))[[0, 0, 0, 1, 2]] + 7
    assert typicality(points, 2).tolist()[:3] == [math.inf] * 3
    assert typicality(points, 2)[3:].isfinite().all()


def test_three_blobs_give_their_most_typical_images_the_largest_blob_first() -> None:
    belongs = [0] * 12 + [1] * 25 + [2] * 18
    features = blobs(*belongs)
    expected, scores = [], []
    for blob in (1, 2, 0):
        rows = [i for i, own in enumerate(belongs) if own == blob]
        values = naive(features[rows].tolist(), 20)
        expected.append(rows[values.index(max(values))])
        scores.append(max(values))
    queries = [choose(features, 3, seed=seed, normalize=False) for seed in range(10)]
    found = [query for query in queries if query.rows.tolist() == expected]
    assert len(found) >= 5  # k-means may start with two centres in one blob
    assert found[0].scores.tolist() == pytest.approx(scores, rel=1e-4)


def whichever(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Clusters are the corners of the features whatever is asked for; returns how many were."""
    asked: list[int] = []

    def corners(points: Rows, k: int, generator: Generator) -> tuple[Tensor, Tensor]:
        asked.append(k)
        return torch.cdist(torch.cat(list(points.split(7))), CORNERS).argmin(1).unique(return_inverse=True)[1], CORNERS

    monkeypatch.setattr(module, "cluster", corners)
    return asked


def asked_of(query: Query, features: Tensor) -> list[int]:
    return torch.cdist(features[query.rows], CORNERS).argmin(1).tolist()


def test_clusters_without_labels_come_before_larger_ones_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    whichever(monkeypatch)
    features = blobs(*[0] * 30, *[1] * 12, *[2] * 20, *[3] * 8, 0, 0, 2)
    query = choose(features, 9, labelled=3, normalize=False)
    assert asked_of(query, features) == [1, 3, 2, 0, 1, 3, 2, 0, 1]
    assert query.rows.max() < 70


def test_small_clusters_wait_until_all_others_are_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    whichever(monkeypatch)
    features = blobs(*[0] * 5, *[1] * 7, *[2] * 6, *[3] * 3)
    assert asked_of(choose(features, 21, normalize=False), features) == [1, 2] * 6 + [1] + [0, 3] * 3 + [0] * 2
    assert asked_of(choose(features, 4, normalize=False, smallest=0), features) == [1, 2, 0, 3]


def test_labelled_images_count_towards_the_size_of_a_cluster_and_not_as_neighbours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whichever(monkeypatch)
    features = blobs(*[0] * 6, *[1] * 4, 1, 1)
    query = choose(features, 10, labelled=2, normalize=False)
    assert asked_of(query, features) == [0, 1] * 4 + [0, 0]
    assert query.scores[1::2][:4].tolist() == pytest.approx(sorted(naive(features[6:10].tolist(), 20))[::-1], rel=1e-4)


def test_within_a_cluster_typicality_goes_down(monkeypatch: pytest.MonkeyPatch) -> None:
    whichever(monkeypatch)
    features = blobs(*[0] * 30)
    query = choose(features, 30, normalize=False, neighbours=4)
    assert query.scores.tolist() == pytest.approx(sorted(naive(features.tolist(), 4), reverse=True), rel=1e-4)


@pytest.mark.parametrize(("clusters", "count"), [(500, 12), (9, 9)])
def test_there_are_as_many_clusters_as_labels_will_be(
    monkeypatch: pytest.MonkeyPatch, clusters: int, count: int
) -> None:
    asked = whichever(monkeypatch)
    choose(blobs(*[0, 1, 2] * 10), 8, labelled=4, clusters=clusters)
    assert asked == [count]


def test_on_unit_vectors_lengths_do_not_matter() -> None:
    features = torch.randn(60, 5, generator=rng(3))
    scaled = features * 2.0 ** torch.randint(-2, 3, (60, 1), generator=rng(4))
    assert torch.equal(choose(features, 9, labelled=5).rows, choose(scaled, 9, labelled=5).rows)
    plain = [choose(x, 9, labelled=5, normalize=False).rows for x in (features, scaled)]
    assert not torch.equal(*plain)
