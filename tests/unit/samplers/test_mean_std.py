"""Mean over classes of the spread of a probability over draws, against NumPy and at its ends.

N images, C classes, K draws.
"""

import math
from decimal import Decimal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from kdal_cli.samplers.mean_std import mean_std, mean_std_score

stacks = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(2, 5)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-8, 8))
)


@given(logits=stacks)
@settings(max_examples=50)
def test_it_is_the_mean_of_the_standard_deviations_of_the_whole_stack(logits: np.ndarray) -> None:
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)  # (K, N, C)
    score = mean_std_score(iter(torch.from_numpy(logits)))
    assert score.dtype == torch.float64
    np.testing.assert_allclose(score.numpy(), probs.std(0).mean(-1), atol=1e-12)
    classes = logits.shape[2]
    assert ((score >= 0) & (score <= math.sqrt(classes - 1) / classes + 1e-12)).all()


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_as_many_sure_draws_as_classes_that_all_differ_reach_the_bound(classes: int) -> None:
    draws = [1e4 * torch.eye(classes)[[c]] for c in range(classes)]
    assert mean_std_score(draws).item() == pytest.approx(math.sqrt(classes - 1) / classes, abs=1e-12)


def test_two_opposite_draws_are_half_a_unit_from_their_mean_in_two_classes() -> None:
    assert mean_std_score([1e4 * torch.eye(5)[[c]] for c in (0, 3)]).item() == pytest.approx(2 * 0.5 / 5, abs=1e-12)


def test_identical_draws_score_exactly_zero() -> None:
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    assert mean_std_score([logits] * 9).tolist() == [0] * 50


def test_small_deviations_of_a_large_probability_keep_their_digits() -> None:
    """√(mean p² − (mean p)²) of p near 1 would be off by the root of the rounding error, 1e-8."""
    gaps = (20, 21, 22, 25)  # p between 1 − 2e-9 and 1
    others = [1 / (1 + Decimal(gap).exp()) for gap in gaps]  # 1 − p, with 28 digits
    mean = sum(others) / 4
    expected = float((sum((p - mean) ** 2 for p in others) / 4).sqrt())
    score = mean_std_score([torch.tensor([[0.0, -gap]]) for gap in gaps]).item()
    assert score == pytest.approx(expected, rel=1e-6)


def test_the_sampler_takes_the_images_of_the_widest_spread(make_pool, rng: torch.Generator) -> None:
    """None of them changes its class: p swings from 1/2 to 1/(1 + e^−swing)."""
    swings = torch.tensor([0.0, 0.3, 2.0, 0.1, 5.0])

    def draw(ids: Tensor, count: int, generator: torch.Generator):
        return (torch.stack([swings * (i % 2), torch.zeros(5)], 1)[ids] for i in range(count))

    pool = make_pool(torch.zeros(5, 2))
    pool.scorer.draws = draw
    query = mean_std(pool, 3, rng, draws=4)
    assert query.rows.tolist() == [4, 2, 1]
    expected = [(1 / (1 + math.exp(-swing)) - 0.5) / 2 for swing in (5.0, 2.0, 0.3)]
    assert query.scores.tolist() == pytest.approx(expected, abs=1e-6)
