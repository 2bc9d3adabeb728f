"""k-center greedy against the textbook loop, and its radius against the best that exhaustive search can find.

N images, M labelled, D features, P centres.
"""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kdal_cli.inference.evidence import Evidence
from kdal_cli.samplers import _distance
from kdal_cli.samplers import coreset as module
from kdal_cli.samplers._distance import Cloud
from kdal_cli.samplers.coreset import coreset, k_center
from kdal_cli.types import Query


class Plane:
    """A scorer that knows features alone."""

    def __init__(self, features: Tensor) -> None:
        self.features = features

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(ids), 2), self.features[ids]


def points(seed: int, n: int, width: int = 2) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def choose(features: Tensor, k: int, labelled: int = 0, seed: int = 0) -> Query:
    """From all but the last `labelled` of the features, which have labels."""
    n = len(features) - labelled
    ids = torch.arange(len(features))
    pool = Evidence(ids[:n], ids[n:], torch.zeros(labelled), 2, Plane(features))  # type: ignore[arg-type]
    return coreset(pool, k, Generator().manual_seed(seed))


def radius(points: list[list[float]], centres: list[list[float]]) -> float:
    return max(min(math.dist(p, c) for c in centres) for p in points)


def greedy(points: list[list[float]], centres: list[list[float]], k: int) -> list[int]:
    """Gonzalez 1985, word by word."""
    chosen: list[int] = []
    for _ in range(k):
        so_far = centres + [points[i] for i in chosen]
        left = [i for i in range(len(points)) if i not in chosen]
        chosen.append(max(left, key=lambda i: min(math.dist(points[i], c) for c in so_far)))
    return chosen


def all_at_once(points: Tensor, centres: Tensor) -> Tensor:
    """d² of each to the nearest centre, in float64 from differences: (N, D), (P, D) -> (N,)."""
    apart = (points.double()[:, None] - centres.double()).square().sum(2)  # (N, P)
    return apart.amin(1) if len(centres) else torch.full((len(points),), math.inf, dtype=torch.float64)


def measured_anew(points: Tensor, centres: Tensor, k: int, key: Tensor) -> tuple[list[int], list[float]]:
    """All distances computed again after each pick; of equals the lowest key."""
    distance, rows, scores = all_at_once(points, centres), [], []
    for _ in range(min(k, len(points))):
        farthest = (distance == distance.max()).nonzero()[:, 0]
        rows.append(int(farthest[key[farthest].argmin()]))
        scores.append(float(distance.max()))
        distance = torch.minimum(distance, (points.double() - points[rows[-1]].double()).square().sum(1))
        distance[rows] = -1
    return rows, scores


def clustered(seed: int, n: int, width: int) -> Tensor:
    """Copies, near-copies and points far from all others."""
    centres = 10 * points(seed, 4, width)
    near = centres[torch.arange(n) % 4] + 1e-3 * points(seed + 1, n, width)
    kinds = [near, centres.repeat(n, 1)[:n], points(seed + 2, n, width)]
    return torch.stack([kinds[i % 3][i] for i in range(n)])


@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), centres=st.integers(0, 20), width=st.integers(1, 9))
@settings(max_examples=60)
def test_the_distance_is_that_to_the_nearest_centre_of_all(seed: int, n: int, centres: int, width: int) -> None:
    cloud, others = (
        Cloud(clustered(seed, n, width)),
        clustered(seed + 5, centres, width) if centres else points(0, 0, width),
    )
    assert torch.equal(cloud.distance(torch.arange(n), others), all_at_once(cloud.points, others))


@given(
    seed=st.integers(0, 10**6), n=st.integers(1, 40), centres=st.integers(1, 20), offset=st.sampled_from([0, 1e3, 1e6])
)
@settings(max_examples=60)
def test_a_bound_is_no_less_than_the_distance_and_hardly_more(seed: int, n: int, centres: int, offset: float) -> None:
    """By no more than the rounding of float32 beside the spread of the points, wherever the origin is."""
    cloud, others = Cloud(clustered(seed, n, 5) + offset), clustered(seed + 5, centres, 5) + offset
    bound, truth = cloud.bound(others), all_at_once(cloud.points, others)
    spread = all_at_once(torch.cat([cloud.points, others]), cloud.points.double().mean(0, keepdim=True)).max()
    assert (bound >= truth).all()
    assert (bound <= truth + 1e-4 * float(spread)).all()


def test_it_is_exact_in_many_dimensions_where_rounding_adds_up() -> None:
    features = points(0, 300, 512).relu()
    cloud, truth = Cloud(features[:260]), all_at_once(features[:260], features[260:])
    bound = cloud.bound(features[260:])
    assert torch.equal(cloud.distance(torch.arange(260), features[260:]), truth)
    assert ((bound >= truth) & (bound <= truth * (1 + 1e-3))).all()


@pytest.mark.parametrize("chunk", [1, 3, 11])
def test_the_size_of_a_block_changes_neither_bounds_nor_distances(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features, others = points(2, 23, 5), points(3, 10, 5)
    whole = Cloud(features)
    bound, distance = whole.bound(others), whole.distance(torch.arange(23), others)
    monkeypatch.setattr(_distance, "CHUNK", chunk)
    torch.testing.assert_close(Cloud(features).bound(others), bound, rtol=1e-6, atol=1e-5)
    assert torch.equal(Cloud(features).distance(torch.arange(23), others), distance)


def test_a_copy_of_a_centre_lies_at_zero_and_not_at_what_a_product_leaves() -> None:
    features = 1e4 + points(1, 50, 64)
    assert Cloud(features).distance(torch.arange(50), features).eq(0).all()


def test_without_centres_every_image_is_infinitely_far() -> None:
    cloud = Cloud(points(0, 4))
    assert cloud.distance(torch.arange(4), points(0, 0)).tolist() == [math.inf] * 4
    assert cloud.bound(points(0, 0)).tolist() == [math.inf] * 4


@pytest.mark.parametrize("chunk", [4, 1000])
@pytest.mark.parametrize("front", [1, 5, 256])
@pytest.mark.parametrize("kind", ["clustered", "grid", "alike", "far", "outlier"])
@pytest.mark.parametrize("labelled", [0, 7])
def test_the_picks_are_those_of_measuring_everything_anew(
    kind: str, labelled: int, front: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ties and copies included, however few points are followed and however small the blocks are."""
    monkeypatch.setattr(_distance, "CHUNK", chunk)
    monkeypatch.setattr(module, "FRONT", front)
    features = {
        "clustered": clustered(0, 31, 3),
        "grid": (3 * points(1, 31)).round(),
        "alike": torch.ones(31, 3),
        "far": clustered(2, 31, 3) + 1e4,
        "outlier": torch.cat([points(3, 30, 3), 1e6 * torch.ones(1, 3)]).roll(5, 0),
    }[kind]
    key = torch.randperm(31 - labelled, generator=torch.Generator().manual_seed(4))
    query = k_center(features[labelled:], features[:labelled], 20, key)
    rows, scores = measured_anew(features[labelled:], features[:labelled], 20, key)
    assert (query.rows.tolist(), query.scores.tolist()) == (rows, scores)


def test_so_they_are_of_a_thousand_images_and_as_many_features_as_a_network_has() -> None:
    features, key = points(7, 1000, 128).relu(), torch.randperm(900, generator=torch.Generator().manual_seed(1))
    query = k_center(features[:900], features[900:], 300, key)
    rows, scores = measured_anew(features[:900], features[900:], 300, key)
    assert query.rows.tolist() == rows
    assert query.scores.tolist() == pytest.approx(scores, rel=1e-12)


class Largest(TorchDispatchMode):
    """Watches how many numbers the largest tensor has that is computed."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


def test_no_block_is_as_large_as_the_pool_times_the_labelled_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_distance, "CHUNK", 32)
    monkeypatch.setattr(module, "FRONT", 16)
    features, width = points(8, 600, 4), 4
    with Largest() as largest:
        k_center(features[:400], features[400:], 40, torch.arange(400))
    assert largest.numbers <= 400 * width


@given(seed=st.integers(0, 10**6), k=st.integers(1, 12), labelled=st.integers(1, 6))
@settings(max_examples=40)
def test_it_is_the_textbook_loop(seed: int, k: int, labelled: int) -> None:
    features = points(seed, 14 + labelled)
    pool, centres = features[:14].tolist(), features[14:].tolist()
    assert choose(features, k, labelled).rows.tolist() == greedy(pool, centres, k)


def test_before_anything_is_labelled_it_goes_on_from_a_random_image_of_score_infinity() -> None:
    features = points(2, 12)
    queries = [choose(features, 5, seed=seed) for seed in range(20)]
    for query in queries:
        first, *rest = query.rows.tolist()
        pool = features.tolist()
        assert greedy(pool, [pool[first]], 4) == rest
        assert query.scores[0] == math.inf
    assert len({int(query.rows[0]) for query in queries}) > 5


@given(seed=st.integers(0, 10**6), labelled=st.integers(0, 2))
@settings(max_examples=25)
def test_its_radius_is_at_most_twice_the_best_there_is(seed: int, labelled: int) -> None:
    features = points(seed, 9 + labelled)
    pool, centres = features[:9].tolist(), features[9:].tolist()
    found = radius(pool, centres + [pool[i] for i in choose(features, 3, labelled, seed).rows])
    best = min(radius(pool, [*centres, *chosen]) for chosen in itertools.combinations(pool, 3))
    assert found <= 2 * best + 1e-5


def test_the_score_is_the_squared_distance_at_the_time_and_never_grows() -> None:
    features = points(3, 20)
    query = choose(features, 8, labelled=4)
    centres = features[16:].tolist()
    for row, score in zip(query.rows.tolist(), query.scores.tolist(), strict=True):
        assert score == pytest.approx(min(math.dist(features[row].tolist(), c) for c in centres) ** 2, rel=1e-4)
        centres.append(features[row].tolist())
    assert (query.scores.diff() <= 1e-6).all()


def test_a_copy_of_what_is_chosen_comes_only_when_nothing_else_is_left() -> None:
    features = torch.cat([points(4, 5), points(4, 5), points(5, 2)])
    query = choose(features, 10, labelled=2)
    assert sorted(row % 5 for row in query.rows[:5].tolist()) == [0, 1, 2, 3, 4]
    assert sorted(query.rows.tolist()) == list(range(10))
    assert query.scores[5:].abs().max() < 1e-5


def test_distances_far_from_the_origin_keep_their_order() -> None:
    """|a|² + |b|² − 2a·b loses everything there in float32; a difference does not."""
    features = points(6, 12) + 1e4
    pool, centres = features[:10].tolist(), features[10:].tolist()
    assert choose(features, 6, labelled=2).rows.tolist() == greedy(pool, centres, 6)


def test_distances_may_be_measured_among_other_numbers_than_features(make_pool) -> None:
    logits, features = points(7, 15, 3), points(8, 15)
    by_features, by_probs = (
        coreset(make_pool(logits, features), 9, Generator().manual_seed(0), space=space)
        for space in ("features", "probabilities")
    )
    first, *rest = by_probs.rows.tolist()
    probs = logits.softmax(1).tolist()
    assert greedy(probs, [probs[first]], 8) == rest
    assert by_features.rows.tolist() != by_probs.rows.tolist()
