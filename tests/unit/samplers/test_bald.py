"""Mutual information of prediction and dropout mask, against NumPy and against what theory says at its ends.

N images, C classes, K draws.
"""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from torch import Tensor

from kdal_cli.samplers.bald import bald, bald_score


def random_draws(k: int, n: int = 6, c: int = 4, spread: float = 2.0) -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [spread * torch.randn(n, c, generator=rng) for _ in range(k)]


def entropy(probs: np.ndarray) -> np.ndarray:
    return -(probs * np.log(probs)).sum(-1)


@pytest.mark.parametrize("k", [1, 2, 10])
def test_it_is_the_entropy_of_the_mean_less_the_mean_of_the_entropies(k: int) -> None:
    draws = random_draws(k)
    logits = torch.stack(draws).double().numpy()  # (K, N, C)
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = entropy(probs.mean(0)) - entropy(probs).mean(0)
    np.testing.assert_allclose(bald_score(draws).numpy(), expected, atol=1e-12)


def test_draws_that_agree_tell_nothing_however_unsure_they_are() -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    assert bald_score([logits] * 7).tolist() == [0] * 5


def test_sure_images_still_have_an_order() -> None:
    """Of gaps of 60 and more the sure class has probability 1 in float64; the others tell the draws apart."""

    def exactly(gaps: tuple[int, int]) -> float:
        """Mean over two draws of KL(p ‖ mean p), of two classes, with 60 digits."""
        with localcontext(prec=60):
            draws = [(1 / (1 + Decimal(-g).exp()), 1 / (1 + Decimal(g).exp())) for g in gaps]
            mean = [sum(p) / 2 for p in zip(*draws, strict=True)]
            return float(sum(p * (p / m).ln() for draw in draws for p, m in zip(draw, mean, strict=True)) / 2)

    gaps = [(60, 61), (60, 70), (80, 70), (50, 50)]
    draws = [torch.tensor([[0.0, -pair[i]] for pair in gaps]) for i in range(2)]
    assert bald_score(draws).tolist() == pytest.approx([exactly(pair) for pair in gaps], rel=1e-12)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_sure_draws_that_all_differ_tell_the_logarithm_of_their_number(k: int) -> None:
    opposite = [1e4 * torch.eye(5)[[i]] for i in range(k)]
    assert bald_score(opposite).item() == pytest.approx(math.log(k), abs=1e-12)


@pytest.mark.parametrize(("k", "c"), [(3, 8), (12, 4)])
def test_it_lies_between_zero_and_the_logarithm_of_the_fewer_of_draws_and_classes(k: int, c: int) -> None:
    score = bald_score(random_draws(k, n=50, c=c, spread=30.0))
    assert ((score >= 0) & (score <= math.log(min(k, c)) + 1e-12)).all()
    assert score.max() > 0.5 * math.log(min(k, c))


def test_the_sampler_takes_the_images_on_which_draws_disagree(make_pool, rng: torch.Generator) -> None:
    """Under noise of one size, unsure images change their answer and sure ones do not."""
    logits = 90.0 * torch.eye(3)[torch.arange(20) % 3]
    logits[[4, 9, 17]] = 0.0
    query = bald(make_pool(logits), 3, rng, draws=20)
    assert set(query.rows.tolist()) == {4, 9, 17}
    assert (query.scores > 0.05).all()


def test_it_asks_for_as_many_draws_as_it_is_told(make_pool, rng: torch.Generator) -> None:
    pool = make_pool(torch.zeros(6, 3))
    asked: list[int] = []
    draws = pool.scorer.draws

    def counting(ids: Tensor, count: int, generator: torch.Generator):
        asked.append(count)
        return draws(ids, count, generator)

    pool.scorer.draws = counting
    bald(pool, 2, rng, draws=3)
    assert asked == [3]
