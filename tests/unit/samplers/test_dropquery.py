"""DropQuery: which labels flip, one pass after another, and which images stand for the clusters of those that do.

N images, C classes, D features.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import shuffled
from kdal_cli.samplers import dropquery as module
from kdal_cli.samplers.dropquery import dropped, dropquery, flips, one_of_each_cluster


class Linear:
    """A scorer that ends in a linear layer, (C, D) without bias."""

    def __init__(self, features: Tensor, weight: Tensor) -> None:
        self.features, self.weight = features, weight

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        return self.classify(self.features[ids]), self.features[ids]

    def logits(self, ids: Tensor) -> Tensor:
        return self.look(ids)[0]

    def classify(self, features: Tensor) -> Tensor:
        return features @ self.weight.T


def rng(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=rng(seed))


def evidence(features: Tensor, weight: Tensor) -> Evidence:
    none = torch.zeros(0, dtype=torch.int64)
    return Evidence(torch.arange(len(features)), none, none, len(weight), Linear(features, weight))  # type: ignore[arg-type]


@given(
    seed=st.integers(0, 10**6), n=st.integers(1, 12), passes=st.integers(1, 5), rate=st.sampled_from([0.0, 0.5, 0.9])
)
@settings(deadline=None, max_examples=30)
def test_flips_are_counted_pass_by_pass(seed: int, n: int, passes: int, rate: float) -> None:
    features, weight = normal(seed, n, 6), normal(seed + 1, 4, 6)
    order = shuffled(torch.arange(n), rng(seed))
    masks = rng(seed + 2)
    expected = [0] * n
    for _ in range(passes):
        for place, row in enumerate(order.tolist()):
            kept = [float(u) >= rate for u in torch.rand(6, generator=masks)]
            left = torch.tensor([z if keep else 0.0 for z, keep in zip(features[row].tolist(), kept, strict=True)])
            expected[place] += int((weight @ left).argmax() != (weight @ features[row]).argmax())
    assert flips(evidence(features, weight), order, passes, rate, rng(seed + 2)).tolist() == expected


def test_masks_do_not_depend_on_the_size_of_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, order = evidence(normal(0, 50, 7), normal(1, 3, 7)), torch.arange(50)
    whole = flips(pool, order, 3, 0.5, rng(0))
    monkeypatch.setattr(module, "CHUNK", 7)
    assert torch.equal(flips(pool, order, 3, 0.5, rng(0)), whole)
    assert 0 < whole.float().mean() < 3


@pytest.mark.parametrize("rate", [0.25, 0.75])
def test_dropped_features_are_zero_or_larger_and_keep_their_mean(rate: float) -> None:
    left = dropped(torch.full((200, 100), 3.0), rate, rng(0))
    assert sorted(left.unique().tolist()) == [0.0, pytest.approx(3 / (1 - rate))]
    error = math.sqrt(rate * (1 - rate) / left.numel())
    assert abs(float((left == 0).float().mean()) - rate) < 5 * error


def test_nothing_flips_when_nothing_is_dropped() -> None:
    features, weight = normal(0, 20, 6), normal(1, 4, 6)
    assert flips(evidence(features, weight), torch.arange(20), 3, 0.0, rng(0)).sum() == 0


def blobs(seed: int) -> tuple[Tensor, Tensor]:
    """Three far blobs of twelve candidates each, of all lengths, and as many others: (72, D), candidates (72,) bool."""
    centres = torch.eye(5)[:3].repeat_interleave(12, 0)
    points = (centres + 0.05 * normal(seed, 36, 5)) * (1 + torch.rand(36, 1, generator=rng(seed)) * 9)
    return torch.cat([points, normal(seed + 1, 36, 5)]), torch.arange(72) < 36


@pytest.mark.parametrize("seed", range(8))
def test_of_each_cluster_of_candidates_the_one_nearest_to_the_middle_stands_for_it(seed: int) -> None:
    points, candidates = blobs(seed)
    rows = one_of_each_cluster(points, torch.zeros(72), candidates, 3, rng(seed))
    directions = F.normalize(points[:36]).reshape(3, 12, 5)
    nearest = (directions - directions.mean(1, keepdim=True)).norm(dim=2).argmin(1)
    assert sorted(rows.tolist()) == (nearest + torch.tensor([0, 12, 24])).tolist()


def test_those_that_stand_for_a_cluster_come_by_score_and_then_all_others_by_score() -> None:
    points, candidates = blobs(0)
    scores = torch.rand(72, generator=rng(5))
    rows = one_of_each_cluster(points, scores, candidates, 60, rng(0))
    clusters = 36  # all candidates differ
    assert len(rows.unique()) == 60
    assert candidates[rows[:clusters]].all()
    assert not candidates[rows[clusters:]].any()
    assert (scores[rows[:clusters]].diff() <= 0).all()
    assert torch.equal(scores[rows[clusters:]], scores[36:].sort(descending=True).values[:24])


def test_copies_of_candidates_come_before_images_that_flip_less() -> None:
    points = torch.cat([normal(0, 2, 4)] * 3 + [normal(1, 6, 4)])  # (12, D), of six candidates two differ
    scores = torch.tensor([3] * 6 + [1] * 6)
    rows = one_of_each_cluster(points, scores, scores == 3, 8, rng(0))
    assert sorted(row % 2 for row in rows[:2].tolist()) == [0, 1]
    assert sorted(rows[:6].tolist()) == list(range(6))


def test_without_candidates_it_asks_by_score() -> None:
    rows = one_of_each_cluster(
        normal(0, 5, 3), torch.tensor([0, 2, 1, 4, 3]), torch.zeros(5, dtype=torch.bool), 3, rng(0)
    )
    assert rows.tolist() == [3, 4, 1]


@pytest.mark.parametrize("passes", [1, 2, 3, 4])
def test_a_query_is_of_images_that_flip_in_more_than_half_of_the_passes(passes: int) -> None:
    pool = evidence(normal(0, 60, 8), normal(1, 5, 8))
    query = dropquery(pool, 4, rng(3), passes=passes)
    uniforms = rng(3)
    order = shuffled(pool.ids, uniforms)
    share = flips(pool, order, passes, 0.75, uniforms) / passes
    assert int((share > 0.5).sum()) > 4
    assert (query.scores > 0.5).all()
    where = order.argsort()[query.rows]
    assert torch.equal(query.scores, share[where])


@pytest.mark.parametrize("space", ["features", "probabilities"])
def test_a_query_is_of_flips_and_clusters_of_the_same_images(space: str) -> None:
    pool = evidence(normal(0, 60, 8), normal(1, 5, 8))
    uniforms = rng(4)
    order = shuffled(pool.ids, uniforms)
    count = flips(pool, order, 3, 0.75, uniforms)
    points = pool.features if space == "features" else pool.logits.softmax(1)
    expected = order[one_of_each_cluster(points[order], count, count > 1, 7, uniforms)]
    assert dropquery(pool, 7, rng(4), space=space).rows.tolist() == expected.tolist()


def test_an_image_on_which_one_feature_decides_flips_more_than_one_on_which_all_agree() -> None:
    alone, together = torch.zeros(30, 40), torch.full((30, 40), 0.5)
    alone[:, 0] = 5.0
    weight = torch.cat([torch.ones(1, 40), torch.full((1, 40), -1.0)])
    features = torch.cat([alone, together])
    features[:30, 1:] = -0.02
    count = flips(evidence(features, weight), torch.arange(60), 3, 0.75, rng(0))
    assert count[:30].float().mean() > 1.5
    assert count[30:].sum() == 0
