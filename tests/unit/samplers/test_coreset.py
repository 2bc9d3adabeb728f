"""k-center greedy against the textbook loop, and its radius against the best that exhaustive search can find.

N images, M labelled, D features.
"""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from kdal_cli.evidence import Evidence
from kdal_cli.samplers import coreset as module
from kdal_cli.samplers.coreset import coreset, nearest
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


@pytest.mark.parametrize("chunk", [1, 3, 4096])
def test_the_distance_to_the_nearest_centre_is_the_least_of_all(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    features, centres = points(0, 11, 5), points(1, 7, 5)
    expected = [min(math.dist(f, c) for c in centres.tolist()) ** 2 for f in features.tolist()]
    torch.testing.assert_close(nearest(features, centres), torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_without_centres_every_image_is_infinitely_far() -> None:
    assert nearest(points(0, 4), points(0, 0)).tolist() == [math.inf] * 4


@given(seed=st.integers(0, 10**6), k=st.integers(1, 12), labelled=st.integers(1, 6))
@settings(deadline=None, max_examples=40)
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
@settings(deadline=None, max_examples=25)
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
