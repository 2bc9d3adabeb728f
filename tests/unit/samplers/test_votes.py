"""Votes of a committee, against counts by hand and the divergences of the paper in NumPy.

N images, C classes, K members.
"""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kdal_cli.inference.evidence import Evidence
from kdal_cli.samplers.votes import vote_entropy_score, vote_shares, votes

ballots = st.tuples(st.integers(1, 9), st.integers(2, 5)).flatmap(
    lambda shape: st.lists(st.integers(0, shape[1] - 1), min_size=shape[0], max_size=shape[0]).map(
        lambda choices: (choices, shape[1])
    )
)


def cast(choices: list[int], classes: int) -> list[Tensor]:
    """The logits of one image by members that predict so."""
    return [torch.eye(classes)[[choice]] for choice in choices]


def answers(k: int, n: int, c: int = 4) -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [2 * torch.randn(n, c, generator=rng) for _ in range(k)]


def drawing(pool: Evidence, draws: list[Tensor]) -> Evidence:
    """The same pool, in which these are the draws."""
    pool.scorer.draws = lambda ids, count, rng: (logits[ids] for logits in draws)  # type: ignore[method-assign]
    return pool


@given(ballot=ballots)
@settings(max_examples=40)
def test_a_share_is_the_count_of_a_class_over_the_number_of_members(ballot: tuple[list[int], int]) -> None:
    choices, classes = ballot
    expected = [Counter(choices)[c] / len(choices) for c in range(classes)]
    shares = vote_shares(cast(choices, classes))
    assert shares.dtype == torch.float64
    assert shares.tolist() == [expected]


@given(ballot=ballots)
@settings(max_examples=40)
def test_vote_entropy_is_that_of_the_shares_within_its_bounds(ballot: tuple[list[int], int]) -> None:
    choices, classes = ballot
    shares = [count / len(choices) for count in Counter(choices).values()]
    score = vote_entropy_score(cast(choices, classes)).item()
    assert score == pytest.approx(-sum(v * math.log(v) for v in shares), abs=1e-14)
    assert 0 <= score <= math.log(min(classes, len(choices))) + 1e-14


@given(ballot=ballots, order=st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_neither_which_member_voted_nor_for_which_class_changes_a_digit(ballot, order) -> None:
    """Otherwise the digits, and not the seeded key, would break the many ties."""
    choices, classes = ballot
    renamed = order.sample(range(classes), classes)
    moved = [renamed[choice] for choice in order.sample(choices, len(choices))]
    assert vote_entropy_score(cast(choices, classes)).item() == vote_entropy_score(cast(moved, classes)).item()


def test_ten_members_of_whom_five_three_and_two_agree() -> None:
    choices = [0] * 5 + [2] * 3 + [3] * 2
    expected = 0.5 * math.log(2) - 0.3 * math.log(0.3) - 0.2 * math.log(0.2)
    assert vote_entropy_score(cast(choices, 4)).item() == pytest.approx(expected, abs=1e-14)


def test_how_sure_a_member_is_counts_for_consensus_alone(make_pool) -> None:
    """Image 0: members all sure of different classes; image 1: the same votes, barely; image 2: all agree."""
    sure = torch.tensor([9.0, 0.1, 5.0])[:, None]
    draws = [sure * torch.eye(3)[[i, i, 0]] for i in range(3)]
    pool = drawing(make_pool(torch.zeros(3, 3)), draws)
    entropy = votes(pool, 3, torch.Generator().manual_seed(0), measure="vote_entropy")
    consensus = votes(pool, 3, torch.Generator().manual_seed(0), measure="consensus_kl")
    assert entropy.scores.tolist() == pytest.approx([math.log(3), math.log(3), 0], abs=1e-14)
    assert consensus.rows.tolist() == [0, 1, 2]
    assert consensus.scores[0] > 100 * consensus.scores[1] > 0


def test_consensus_is_the_mean_divergence_of_the_members_from_their_mean(make_pool) -> None:
    draws = answers(6, n=8)
    probs = np.exp(torch.stack(draws).double().numpy())  # (K, N, C)
    probs /= probs.sum(-1, keepdims=True)
    expected = (probs * np.log(probs / probs.mean(0))).sum(-1).mean(0)
    query = votes(
        drawing(make_pool(draws[0]), draws), 8, torch.Generator().manual_seed(0), draws=6, measure="consensus_kl"
    )
    assert query.rows.tolist() == np.argsort(-expected).tolist()
    np.testing.assert_allclose(query.scores.numpy(), expected[query.rows], atol=1e-12)


def test_of_equal_votes_every_image_has_its_chance(make_pool) -> None:
    """Images 0 to 3 are split evenly and differ in nothing else that counts; 4 and 5 are agreed on."""
    split = [torch.eye(2)[[i, 1 - i, i, 1 - i, 0, 1]] * (1 + i) for i in range(2)]
    pool = drawing(make_pool(torch.zeros(6, 2)), split)
    firsts = Counter(int(votes(pool, 1, torch.Generator().manual_seed(seed)).rows) for seed in range(400))
    assert sorted(firsts) == [0, 1, 2, 3]
    assert min(firsts.values()) > 50
