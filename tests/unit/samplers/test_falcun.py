"""FALCUN against a reference in plain Python: the relevance of each pick, and how often each image is drawn.

N images, C classes; u uncertainty, d distance to what is chosen, r relevance.
"""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence
from kdal_cli.samplers.falcun import falcun, relevance, uncertainty
from kdal_cli.samplers.margin import margin_score
from kdal_cli.types import Query


def rng(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def answers(seed: int, n: int, classes: int = 4) -> Tensor:
    return 2 * torch.randn(n, classes, generator=rng(seed))


class Told:
    """A scorer that has logits alone."""

    def __init__(self, answers: Tensor) -> None:
        self.answers = answers

    def logits(self, ids: Tensor) -> Tensor:
        return self.answers[ids]


def choose(logits: Tensor, k: int, gamma: float = 10.0, seed: int = 0) -> Query:
    ids, none = torch.arange(len(logits)), torch.zeros(0, dtype=torch.int64)
    pool = Evidence(ids, none, none, logits.shape[1], Told(logits))  # type: ignore[arg-type]
    return falcun(pool, k, rng(seed), gamma=gamma)


def plain(logits: Tensor, chosen: list[int]) -> dict[int, float]:
    """The relevance of every image that is left, by its row."""
    probs = logits.double().softmax(1).tolist()
    unsure, distance = {}, {}
    for row, p in enumerate(probs):
        first, second, *_ = sorted(p, reverse=True)
        unsure[row] = 1 - (first - second)
        others = (sum(abs(a - b) for a, b in zip(p, probs[j], strict=True)) for j in chosen)
        distance[row] = min([unsure[row], *others])
    left = [row for row in range(len(probs)) if row not in chosen]
    low, high = min(distance[row] for row in left), max(distance[row] for row in left)
    return {row: unsure[row] + ((distance[row] - low) / (high - low) if high > low else 0) for row in left}


@given(seed=st.integers(0, 10**6), n=st.integers(1, 15), classes=st.integers(2, 6), gamma=st.sampled_from([0, 1, 10]))
@settings(deadline=None, max_examples=40)
def test_every_image_is_picked_with_the_relevance_that_it_has_then(seed: int, n: int, classes: int, gamma: int) -> None:
    logits = answers(seed, n, classes)
    query = choose(logits, n, gamma, seed)
    for pick, (row, score) in enumerate(zip(query.rows.tolist(), query.scores.tolist(), strict=True)):
        assert score == pytest.approx(plain(logits, query.rows[:pick].tolist())[row], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_with_a_large_gamma_it_is_always_the_most_relevant(seed: int) -> None:
    logits = answers(seed, 12)
    rows = choose(logits, 8, 1e6, seed).rows.tolist()
    for pick, row in enumerate(rows):
        relevant = plain(logits, rows[:pick])
        assert row == max(relevant, key=lambda each: relevant[each])


@pytest.mark.parametrize("gamma", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("pick", [0, 1])
def test_an_image_is_drawn_in_proportion_to_a_power_of_its_relevance(gamma: float, pick: int) -> None:
    logits = answers(3, 6)
    queries = [choose(logits, 2, gamma, seed).rows.tolist() for seed in range(500)]
    first = queries[0][0]
    drawn = Counter(rows[pick] for rows in queries if pick == 0 or rows[0] == first)
    relevant = plain(logits, [first] if pick else [])
    whole = sum(value**gamma for value in relevant.values())
    for row, value in relevant.items():
        share = value**gamma / whole
        error = math.sqrt(drawn.total() * share * (1 - share))
        assert abs(drawn[row] - drawn.total() * share) <= 4 * error


def test_uncertainty_is_one_more_than_the_score_of_margin() -> None:
    logits = answers(1, 20).double()
    torch.testing.assert_close(uncertainty(logits.softmax(1)), 1 + margin_score(logits))


def test_uncertainty_of_a_saturated_softmax_still_has_an_order() -> None:
    logits = torch.tensor([[0.0, -40.0, -60.0], [0.0, -41.0, -60.0]]).double()
    first, second = uncertainty(logits.softmax(1)).tolist()
    assert first == pytest.approx(2 * math.exp(-40), rel=1e-6)
    assert second == pytest.approx(2 * math.exp(-41), rel=1e-6)


def test_distance_is_scaled_from_zero_to_one() -> None:
    unsure = torch.tensor([0.5, 0.1, 0.0])
    torch.testing.assert_close(relevance(unsure, torch.tensor([2.0, 3.0, 4.0])), torch.tensor([0.5, 0.6, 1.0]))
    assert torch.equal(relevance(unsure, torch.full((3,), 2.0)), unsure)


def test_copies_of_what_is_chosen_wait_until_something_else_is_taken() -> None:
    """A copy keeps its uncertainty and has lost its distance."""
    logits = torch.tensor([[0.2, 0.0, 0.0]] * 3 + [[0.0, 0.2, 0.0]] * 3)
    for seed in range(10):
        rows = choose(logits, 2, 100.0, seed).rows.tolist()
        assert {row // 3 for row in rows} == {0, 1}


def test_where_no_distance_is_left_the_unsure_come_first_and_not_any_as_in_the_authors_code() -> None:
    logits = torch.tensor([[0.2, 0.0, 0.0]] * 3 + [[2.0, 0.0, 0.0]] * 3)
    for seed in range(10):
        rows = choose(logits, 6, 100.0, seed).rows.tolist()
        assert {row // 3 for row in rows[:2]} == {0, 1}
        assert [row // 3 for row in rows[2:]] == [0, 0, 1, 1]


def test_where_no_image_is_unsure_all_are_as_likely() -> None:
    sure = torch.tensor([[1e4, 0.0, 0.0]] * 4 + [[0.0, 1e4, 0.0]] * 4)
    counts = Counter(int(choose(sure, 1, seed=seed).rows) for seed in range(400))
    assert sorted(counts) == list(range(8))
    assert max(counts.values()) < 100
