"""Shares of a query in whole images, and samplers one after the other on what is left.

N images, k of them asked for.
"""

from dataclasses import replace
from fractions import Fraction
from math import floor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from kdal_cli.compose import parts
from kdal_cli.errors import UserError
from kdal_cli.samplers._generators import fork
from kdal_cli.samplers.badge import badge
from kdal_cli.samplers.coreset import coreset
from kdal_cli.samplers.entropy import entropy
from kdal_cli.samplers.margin import margin, margin_score
from kdal_cli.samplers.mix import apportion, mix
from kdal_cli.samplers.random import random


def rng(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def some(make_pool, n: int = 30):
    return make_pool(torch.randn(n, 4, generator=rng(1)), torch.randn(n, 3, generator=rng(2)))


weights = st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any)


@given(weights=weights, k=st.integers(1, 1000))
def test_parts_are_those_of_the_largest_remainders(weights: list[int], k: int) -> None:
    """In exact fractions, save which of two equal remainders comes first."""
    exact = [Fraction(k * w, sum(weights)) for w in weights]
    parts = apportion(k, [w / sum(weights) for w in weights])
    assert sum(parts) == k
    assert all(floor(e) <= part <= floor(e) + 1 for e, part in zip(exact, parts, strict=True))
    rounded_up = [e - floor(e) for e, part in zip(exact, parts, strict=True) if part > floor(e)]
    rounded_down = [e - floor(e) for e, part in zip(exact, parts, strict=True) if part == floor(e)]
    assert min(rounded_up, default=1) >= max(rounded_down, default=0)


@pytest.mark.parametrize(
    ("k", "shares", "parts"),
    [
        (1, [0.5, 0.5], [1, 0]),
        (7, [0.5, 0.5], [4, 3]),
        (10, [1 / 3] * 3, [4, 3, 3]),
        (100, [0.29, 0.71], [29, 71]),
        (30, [0.1, 0.9], [3, 27]),
        (5, [0.0, 1.0], [0, 5]),
        (10**7, [0.5, 0.5 - 9e-7], [5_000_005, 4_999_995]),
    ],
)
def test_parts_of_some_queries(k: int, shares: list[float], parts: list[int]) -> None:
    """The second-last has shares that no float holds exactly, the last ones that add up to 1 only nearly."""
    found = apportion(k, shares)
    assert sum(found) == k
    assert found == pytest.approx(parts, abs=0 if k < 10**7 else 1)


def test_the_first_chooses_from_all_and_the_second_from_what_is_left(make_pool) -> None:
    pool = some(make_pool)
    query = mix(pool, 10, rng(), of=[margin, entropy], shares=[0.4, 0.6])
    by_margin = margin(pool, 4, rng()).rows
    left = torch.tensor([row for row in range(30) if row not in by_margin.tolist()])
    by_entropy = left[entropy(pool.take(left), 6, rng()).rows]
    assert query.rows.tolist() == [*by_margin.tolist(), *by_entropy.tolist()]
    assert query.scores[:4].tolist() == margin_score(pool.logits)[by_margin].tolist()


def test_each_has_a_generator_of_its_own(make_pool) -> None:
    pool, seeds = some(make_pool), rng(5)
    query = mix(pool, 8, rng(5), of=[badge, random, coreset], shares=[0.5, 0.25, 0.25])
    first, second = fork(seeds), fork(seeds)
    assert query.rows[:4].tolist() == badge(pool, 4, first).rows.tolist()
    left = torch.tensor([row for row in range(30) if row not in query.rows[:4].tolist()])
    assert query.rows[4:6].tolist() == left[random(pool.take(left), 2, second).rows].tolist()


@pytest.mark.parametrize("k", [1, 2, 3, 29, 30, 31, 1000])
@pytest.mark.parametrize("of", [[margin], [margin, margin], [badge, coreset, random, entropy]])
def test_rows_are_distinct_and_as_many_as_asked_for_or_all(k: int, of: list, make_pool) -> None:
    query = mix(some(make_pool), k, rng(), of=of)
    assert len(query.rows.unique()) == len(query.rows) == len(query.scores) == min(k, 30)
    assert (query.rows.dtype, query.scores.dtype) == (torch.int64, torch.float64)


@pytest.mark.parametrize("k", [20, 30, 1000])
def test_unless_told_otherwise_all_have_equal_shares_of_what_there_is(k: int, make_pool) -> None:
    """Scores of margin lie below 0, those of random are 0."""
    query, half = mix(some(make_pool), k, rng(), of=[margin, random]), min(k, 30) // 2
    assert (query.scores == 0).tolist() == [False] * half + [True] * half


def test_one_sampler_alone_is_that_sampler(make_pool) -> None:
    pool = some(make_pool)
    assert mix(pool, 7, rng(), of=[margin]).rows.tolist() == margin(pool, 7, rng()).rows.tolist()


def test_who_has_no_share_is_not_asked(make_pool) -> None:
    def never(pool, k: int, rng: Generator):
        raise AssertionError

    query = mix(some(make_pool), 4, rng(), of=[never, margin], shares=[0.0, 1.0])
    assert len(query.rows) == 4


def test_the_model_looks_at_the_pool_once_for_all_of_them(make_pool) -> None:
    pool, asked = some(make_pool), []
    look = pool.scorer.look

    def looking(ids: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(len(ids))
        return look(ids)

    pool.scorer.look = looking
    mix(pool, 9, rng(), of=[badge, margin, badge])
    assert asked == [30]


def test_wherever_an_image_lies_in_the_pool_it_is_chosen_in_the_same_place(make_pool) -> None:
    pool = some(make_pool)
    moved = replace(pool, ids=pool.ids.flip(0))
    one, two = (mix(p, 9, rng(), of=[random, badge, coreset]) for p in (pool, moved))
    assert pool.ids[one.rows].tolist() == moved.ids[two.rows].tolist()


@pytest.mark.parametrize("shares", [[0.5], [0.5, 0.6], [0.3, 0.3], [0.5, 0.25, 0.25], []])
def test_shares_that_do_not_fit_are_refused(shares: list[float], make_pool) -> None:
    with pytest.raises(UserError, match=r"sampler\.shares=.*2 numbers from 0 to 1 that add up to 1"):
        mix(some(make_pool), 4, rng(), of=[margin, random], shares=shares)


def test_a_mix_of_nothing_is_refused(make_pool) -> None:
    with pytest.raises(UserError, match=r"sampler\.shares"):
        mix(some(make_pool), 4, rng(), of=[])


def test_samplers_are_named_or_described_in_a_configuration(make_pool) -> None:
    section = {"name": "mix", "of": ["margin", {"name": "subsample", "of": "entropy", "candidates": 9}], "shares": None}
    query = parts.sampler(section, [])(some(make_pool), 6, rng())
    assert len(query.rows.unique()) == 6
    with pytest.raises(UserError, match=r"sampler\.of\[1\]\.candidates=0"):
        parts.sampler({"name": "mix", "of": ["margin", {"name": "subsample", "candidates": 0}]}, [])
