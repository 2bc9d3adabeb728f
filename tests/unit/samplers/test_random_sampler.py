"""The baseline must be fair: every image, every pair, every order of a pair equally often. Seeds are fixed."""

from collections import Counter
from itertools import combinations, permutations

import pytest
import torch

from kdal_cli.samplers.random import random

# Chi-square quantiles of 0.0001 and 0.9999, by degrees of freedom: scipy.stats.chi2.ppf, rounded outwards.
TOO_EVEN, TOO_UNEVEN = {9: 0.66, 11: 1.14, 19: 3.96}, {9: 33.8, 11: 37.4, 19: 50.8}


def chi_square(counts: Counter, outcomes: list) -> float:
    expected = counts.total() / len(outcomes)
    return sum((counts[outcome] - expected) ** 2 / expected for outcome in outcomes)


def queries(make_pool, images: int, k: int, times: int) -> list[tuple[int, ...]]:
    pool = make_pool(torch.zeros(images, 2), ids=None)
    return [tuple(random(pool, k, torch.Generator().manual_seed(seed)).rows.tolist()) for seed in range(times)]


def test_every_image_is_chosen_equally_often(make_pool) -> None:
    """Of one query the counts are tied together, which shrinks chi-square by (N − k) / (N − 1)."""
    n, k = 12, 3
    found = chi_square(Counter(i for query in queries(make_pool, n, k, 3000) for i in query), list(range(n)))
    assert TOO_EVEN[n - 1] < found * (n - 1) / (n - k) < TOO_UNEVEN[n - 1]


def test_every_order_of_every_pair_comes_equally_often(make_pool) -> None:
    found = chi_square(Counter(queries(make_pool, 5, 2, 4000)), list(permutations(range(5), 2)))
    assert TOO_EVEN[19] < found < TOO_UNEVEN[19]


def test_every_subset_comes_equally_often(make_pool) -> None:
    chosen = Counter(tuple(sorted(query)) for query in queries(make_pool, 5, 3, 4000))
    assert TOO_EVEN[9] < chi_square(chosen, list(combinations(range(5), 3))) < TOO_UNEVEN[9]


@pytest.mark.parametrize("images", [1, 10, 1000])
def test_the_whole_pool_comes_out_when_more_is_asked_for(images: int, make_pool, rng: torch.Generator) -> None:
    query = random(make_pool(torch.zeros(images, 2)), images + 5, rng)
    assert sorted(query.rows.tolist()) == list(range(images))


def test_none_is_better_than_another(make_pool, rng: torch.Generator) -> None:
    assert random(make_pool(torch.zeros(9, 2)), 4, rng).scores.tolist() == [0, 0, 0, 0]


def test_it_looks_at_no_model(make_pool, rng: torch.Generator) -> None:
    pool = make_pool(torch.full((9, 2), torch.nan))
    random(pool, 4, rng)
    assert pool.seen is None
