"""Share of draws that leave the most predicted class, counted by hand.

N images, C classes, K draws.
"""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kdal_cli.samplers.variance_ratio import variance_ratio, variance_ratio_score

pools = st.tuples(st.integers(1, 9), st.integers(1, 5), st.integers(2, 5)).flatmap(
    lambda shape: st.lists(
        st.lists(st.integers(0, shape[2] - 1), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    ).map(lambda predictions: (predictions, shape[2]))
)


@given(pool=pools, sure=st.floats(0.01, 1e4))
@settings(max_examples=50)
def test_it_is_one_less_the_share_of_the_most_predicted_class(pool: tuple[list[list[int]], int], sure: float) -> None:
    """predictions (K, N); however sure they are."""
    predictions, classes = pool
    draws = [sure * torch.eye(classes)[each] for each in predictions]
    score = variance_ratio_score(draws)
    assert score.dtype == torch.float64
    for row, cast in enumerate(zip(*predictions, strict=True)):
        most = max(Counter(cast).values())
        assert score[row].item() == 1 - most / len(cast)
        assert 0 <= score[row] <= 1 - 1 / min(classes, len(cast))


def test_the_formula_on_ten_draws() -> None:
    """Six for one class, three and one for others."""
    draws = [torch.eye(3)[[c]] for c in [1] * 6 + [0] * 3 + [2]]
    assert variance_ratio_score(draws).item() == pytest.approx(0.4, abs=1e-15)


def test_draws_that_doubt_without_changing_their_mind_score_nothing() -> None:
    draws = [torch.tensor([[x, 0.0]]) for x in (0.01, 5.0, 300.0)]
    assert variance_ratio_score(draws).tolist() == [0]


def test_the_sampler_takes_the_images_whose_class_changes_most(make_pool, rng: torch.Generator) -> None:
    changes = [0, 3, 1, 0, 2, 4]  # of eight draws, so many name another class

    def draw(ids: Tensor, count: int, generator: torch.Generator):
        return (torch.eye(2)[torch.tensor([int(i < n) for n in changes])][ids] for i in range(count))

    pool = make_pool(torch.zeros(6, 2))
    pool.scorer.draws = draw
    query = variance_ratio(pool, 4, rng, draws=8)
    assert query.rows.tolist() == [5, 1, 4, 2]
    assert query.scores.tolist() == [4 / 8, 3 / 8, 2 / 8, 1 / 8]
