"""Balls against plain distances, the cover against a naive greedy one and the best there is, the radius as defined.

N images, M labelled, D features.
"""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence
from kdal_cli.samplers import probcover as module
from kdal_cli.samplers.probcover import Balls, cover, probcover, pure_radius
from kdal_cli.types import Query


class Plane:
    """A scorer that knows features alone."""

    def __init__(self, features: Tensor) -> None:
        self.features = features

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(ids), 2), self.features[ids]


def rng(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def points(seed: int, n: int) -> Tensor:
    return torch.randn(n, 2, generator=rng(seed))


def choose(features: Tensor, k: int, labelled: int = 0, seed: int = 0, classes: int = 3, **settings) -> Query:
    """From all but the last `labelled` of the features, which have labels."""
    n, ids = len(features) - labelled, torch.arange(len(features))
    pool = Evidence(ids[:n], ids[n:], torch.zeros(labelled), classes, Plane(features))  # type: ignore[arg-type]
    return probcover(pool, k, rng(seed), **settings)


def holds(x: Tensor, radius: float) -> list[set[int]]:
    return [{j for j, q in enumerate(x.tolist()) if math.dist(p, q) < radius} for p in x.tolist()]


def greedy(balls: list[set[int]], covered: set[int], k: int) -> tuple[list[int], list[int]]:
    rows, gains = [], []
    while len(rows) < k and len(covered) < len(balls):
        new = [len(ball - covered) for ball in balls]
        rows.append(new.index(max(new)))
        gains.append(max(new))
        covered = covered | balls[rows[-1]]
    return rows, gains


@pytest.mark.parametrize("chunk", [1, 3, 4, 2048])
def test_balls_hold_what_is_nearer_than_their_radius(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    x = points(0, 11)
    balls, expected = Balls(x, 0.9), holds(x, 0.9)
    rows = torch.tensor([7, 0, 3, 10])
    held = torch.cat(list(balls.hold(rows)))
    assert held.tolist() == [[j in ball for j in rows.tolist()] for ball in expected]
    assert balls.count(rows).tolist() == held.sum(1).tolist()
    assert balls.count_all().tolist() == [len(ball) for ball in expected]
    assert balls.count(rows[:0]).tolist() == [0] * 11


def test_a_ball_is_open() -> None:
    x = torch.tensor([[0.0], [3.0], [7.0]])
    assert Balls(x, 3).count_all().tolist() == [1, 1, 1]
    assert Balls(x, 3.01).count_all().tolist() == [2, 2, 1]
    assert Balls(x, math.inf).count_all().tolist() == [3, 3, 3]


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 45),
    radius=st.floats(0.05, 2),
    share=st.floats(0, 1),
    k=st.integers(1, 50),
    front=st.sampled_from([1, 2, 5, 32]),
    chunk=st.sampled_from([1, 4, 2048]),
)
def test_the_cover_is_that_of_the_naive_greedy_algorithm(
    seed: int, n: int, radius: float, share: float, k: int, front: int, chunk: int
) -> None:
    """With the same picks, as of equal balls both take the first."""
    x = points(seed, n)
    covered = torch.rand(n, generator=rng(seed + 1)) < share
    before = covered.clone()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FRONT", front)
        patch.setattr(module, "CHUNK", chunk)
        found = cover(Balls(x, radius), covered, k)
    assert found == greedy(holds(x, radius), set(covered.nonzero()[:, 0].tolist()), k)
    assert torch.equal(covered, before)


@pytest.mark.parametrize("seed", range(10))
def test_it_covers_at_least_1_minus_1_over_e_of_what_the_best_choice_does(seed: int) -> None:
    x = points(seed, 12)
    balls = holds(x, 0.8)
    best = max(len(set().union(*chosen)) for chosen in itertools.combinations(balls, 3))
    _, gains = cover(Balls(x, 0.8), torch.zeros(12, dtype=torch.bool), 3)
    assert (1 - 1 / math.e) * best <= sum(gains) <= best


@pytest.mark.parametrize("front", [2, 32])
def test_where_nothing_lies_within_reach_each_covers_itself(front: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRONT", front)
    rows, gains = cover(Balls(torch.zeros(5, 2), 0.0), torch.zeros(5, dtype=torch.bool), 9)
    assert (rows, gains) == ([0, 1, 2, 3, 4], [1] * 5)


def purity(x: Tensor, own: list[int], radius: float) -> float:
    return sum(len({own[j] for j in ball}) <= 1 for ball in holds(x, radius)) / len(own)


@given(seed=st.integers(0, 10**6), n=st.integers(2, 30), alpha=st.sampled_from([0.05, 0.3, 0.5, 0.7, 0.9, 0.95, 1.0]))
def test_the_radius_is_the_largest_whose_balls_are_pure_enough(seed: int, n: int, alpha: float) -> None:
    x = points(seed, n)
    own = (x[:, 0] > 0).long()
    radius = pure_radius(x, own, alpha, rng(0))
    if len(own.unique()) == 1:
        assert radius == math.inf
        return
    assert purity(x, own.tolist(), radius * (1 - 1e-4)) >= alpha - 1e-9
    assert purity(x, own.tolist(), radius * (1 + 1e-4)) < alpha


def test_of_many_the_radius_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASKED", 400)
    monkeypatch.setattr(module, "CHUNK", 64)
    x = points(1, 1500)
    own = (x[:, 0] > 0).long()
    whole = float(torch.cdist(x, x).masked_fill(own[:, None] == own, torch.inf).amin(1).quantile(0.2))
    estimates = [pure_radius(x, own, 0.8, rng(seed)) for seed in range(5)]
    assert len(set(estimates)) > 1
    assert estimates == pytest.approx([whole] * 5, rel=0.3)


def test_no_purity_at_all_asks_for_no_bound() -> None:
    assert pure_radius(points(2, 9), torch.arange(9), 0.0, rng(0)) == math.inf


BLOBS = torch.tensor([[0.0, 0.0]] * 9 + [[50.0, 0.0]] * 6 + [[0.0, 50.0]] * 4)
"""Three places, the centre of a blob each."""


def test_it_asks_for_the_fullest_ball_first_and_never_near_a_label() -> None:
    features = BLOBS + 0.1 * points(3, 19)
    query = choose(features, 2, delta=5.0, normalize=False)
    assert query.scores.tolist() == [9, 6]
    assert int(query.rows[0]) < 9 <= int(query.rows[1]) < 15
    labelled = choose(torch.cat([features, BLOBS[:1]]), 2, labelled=1, delta=5.0, normalize=False)
    assert labelled.scores.tolist() == [6, 4]
    assert int(labelled.rows.min()) >= 9


def test_when_all_is_covered_others_fill_up_at_random_with_score_0() -> None:
    """The authors' code goes on with the arg max of zeros: the first row, again and again."""
    queries = [choose(BLOBS + 0.1 * points(4, 19), 8, seed=seed, delta=5.0, normalize=False) for seed in range(8)]
    assert all(query.scores.tolist() == [9, 6, 4, 0, 0, 0, 0, 0] for query in queries)
    assert all(len(query.rows.unique()) == 8 for query in queries)
    assert len({tuple(query.rows[3:].tolist()) for query in queries}) == 8
    assert sorted(choose(BLOBS, 99, delta=5.0, normalize=False).rows.tolist()) == list(range(19))


def test_without_a_radius_it_is_the_largest_pure_one_of_as_many_clusters_as_classes() -> None:
    """No ball reaches into another blob, though each blob is one."""
    features = BLOBS + points(5, 19)
    scores = {tuple(choose(features, 3, seed=seed, normalize=False, alpha=1.0).scores.tolist()) for seed in range(6)}
    assert (9, 6, 4) in scores


def test_balls_of_three_classes_are_smaller_than_those_of_two() -> None:
    """Two of the blobs are one cluster when there are to be two."""
    features = torch.tensor([[0.0, 0.0]] * 9 + [[100.0, 0.0]] * 6 + [[110.0, 0.0]] * 4) + 0.1 * points(10, 19)
    for classes, scores in ((2, (10, 9)), (3, (9, 6, 4))):
        found = {
            tuple(choose(features, classes, seed=seed, classes=classes, normalize=False, alpha=1.0).scores.tolist())
            for seed in range(6)
        }
        assert scores in found


def test_a_lower_alpha_gives_larger_balls() -> None:
    features = torch.rand(80, 2, generator=rng(6))
    first = [float(choose(features, 1, alpha=alpha, normalize=False).scores) for alpha in (0.99, 0.8, 0.5)]
    assert first == sorted(first)
    assert first[0] < first[-1]


def test_on_unit_vectors_lengths_do_not_matter() -> None:
    features = torch.randn(60, 5, generator=rng(7))
    scaled = features * 2.0 ** torch.randint(-2, 3, (60, 1), generator=rng(8))
    settings = {"labelled": 5, "delta": 0.9}
    assert torch.equal(choose(features, 9, **settings).rows, choose(scaled, 9, **settings).rows)
    assert not torch.equal(
        choose(features, 9, normalize=False, **settings).rows, choose(scaled, 9, normalize=False, **settings).rows
    )


def test_far_from_the_origin_balls_are_the_same() -> None:
    features = points(9, 40)
    near, far = (choose(x, 6, labelled=5, delta=0.7, normalize=False) for x in (features, features + 1000))
    assert torch.equal(near.rows, far.rows)
    assert torch.equal(near.scores, far.scores)
