"""The top of perturbed scores against the law of drawing without replacement that it stands for.

N images, C classes, K draws; s the score of BALD.
"""

import math
from collections import Counter
from itertools import permutations

import pytest
import torch
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence
from kdal_cli.samplers.bald import bald_score
from kdal_cli.samplers.power_bald import Variant, log_weights, power_bald
from kdal_cli.types import Query

every_variant = pytest.mark.parametrize("variant", ["power", "softmax", "softrank"])
GAPS = torch.tensor([0.0, 4.0, 1.0, 8.0, 2.0])
"""Two draws answer ±gap: no information at 0, log 2 where they are opposite and sure."""

SCORES = bald_score([torch.stack([sign * GAPS, 0 * GAPS], 1) for sign in (1, -1)])


def opposites(make_pool) -> Evidence:
    pool = make_pool(torch.zeros(len(GAPS), 2))

    def draws(ids: Tensor, count: int, rng: Generator):
        return (torch.stack([sign * GAPS, 0 * GAPS], 1)[ids] for sign in (1, -1))

    pool.scorer.draws = draws
    return pool


def ask(pool: Evidence, k: int, seed: int, beta: float = 1.0, variant: Variant = "power") -> Query:
    return power_bald(pool, k, Generator().manual_seed(seed), beta=beta, variant=variant)


def weights(variant: str, beta: float) -> list[float]:
    """By the definitions of the paper."""
    scores = SCORES.tolist()
    ranks = [1 + sum(other > score for other in scores) for score in scores]
    return {
        "power": [score**beta for score in scores],
        "softmax": [math.exp(beta * score) for score in scores],
        "softrank": [rank**-beta for rank in ranks],
    }[variant]


@every_variant
@pytest.mark.parametrize("beta", [0.5, 1.0, 8.0])
def test_weights_are_those_of_the_paper(variant: Variant, beta: float) -> None:
    assert log_weights(SCORES, beta, variant).exp().tolist() == pytest.approx(weights(variant, beta), rel=1e-12)


@pytest.mark.parametrize(("variant", "beta"), [("power", 0.5), ("softmax", 3.0), ("softrank", 2.0)])
def test_every_ordered_pair_comes_as_often_as_when_drawn_one_after_the_other(variant, beta: float, make_pool) -> None:
    """First in proportion to the weights, then in proportion to those that are left: within 5 standard deviations."""
    pool, times, weight = opposites(make_pool), 1000, weights(variant, beta)
    counts = Counter(tuple(ask(pool, 2, seed, beta, variant).rows.tolist()) for seed in range(times))
    for one, two in permutations(range(len(weight)), 2):
        p = weight[one] / sum(weight) * weight[two] / (sum(weight) - weight[one])
        assert abs(counts[one, two] - times * p) <= 5 * math.sqrt(times * p * (1 - p)), (one, two)


def test_what_tells_nothing_comes_last_in_an_order_of_chance(make_pool) -> None:
    pool = opposites(make_pool)
    pool = pool.take(torch.tensor([0, 1, 0, 3, 0]))  # three times the image that tells nothing
    queries = [ask(pool, 5, seed) for seed in range(60)]
    for query in queries:
        assert set(query.rows[:2].tolist()) == {1, 3}
        assert query.scores[:2].isfinite().all()
        assert query.scores[2:].tolist() == [-math.inf] * 3


def test_when_nothing_tells_anything_it_is_random(make_pool) -> None:
    pool = make_pool(torch.zeros(40, 3))
    pool.scorer.draws = lambda ids, count, rng: (torch.zeros(len(ids), 3) for _ in range(count))
    assert len({tuple(ask(pool, 6, seed).rows.tolist()) for seed in range(20)}) == 20


@every_variant
def test_the_colder_the_closer_to_bald(variant: Variant, make_pool) -> None:
    best = SCORES.argsort(descending=True).tolist()
    assert all(ask(opposites(make_pool), 5, seed, 1e6, variant).rows.tolist() == best for seed in range(20))


def test_the_noise_is_gumbels_and_belongs_to_the_image_not_to_its_score(make_pool) -> None:
    """One noise under every variant and beta, of mean γ and variance π²/6."""
    pool = opposites(make_pool)
    noise = []
    for seed in range(400):
        power, soft = ask(pool, 5, seed, 2.0), ask(pool, 5, seed, 3.0, "softmax")
        by_row = torch.full((5,), torch.nan, dtype=torch.float64)
        by_row[soft.rows] = soft.scores - 3 * SCORES[soft.rows]
        informative = power.scores.isfinite()
        rows = power.rows[informative]
        torch.testing.assert_close(power.scores[informative], 2 * SCORES[rows].log() + by_row[rows])
        noise.append(by_row)
    values = torch.stack(noise)  # (400, N)
    error = math.pi / math.sqrt(6 * values.numel())
    assert float(values.mean()) == pytest.approx(0.5772156649, abs=5 * error)
    assert float(values.var()) == pytest.approx(math.pi**2 / 6, rel=0.15)
    assert torch.corrcoef(values.T).fill_diagonal_(0).abs().max() < 5 / math.sqrt(400)


def test_of_equal_scores_chance_says_which_is_ranked_first(make_pool) -> None:
    pool = make_pool(torch.zeros(8, 2))
    pool.scorer.draws = lambda ids, count, rng: (torch.eye(2)[[i % 2] * len(ids)] * 3 for i in range(count))
    firsts = Counter(int(ask(pool, 1, seed, 1e6, "softrank").rows) for seed in range(200))
    assert sorted(firsts) == list(range(8))
    assert min(firsts.values()) > 8
