"""The best k of a score: the highest first, and among equals no favour to where an image lies or what its id is."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from kdal_cli.inference import ranking
from kdal_cli.inference.ranking import _scramble, by_chunk, highest, keys, shuffled, top

WORD = 2**64
words = st.integers(-(2**63), 2**63 - 1)


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def splitmix64(x: int) -> int:
    """The finaliser as Steele et al. publish it, in whole numbers."""
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) % WORD
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) % WORD
    return x ^ x >> 31


def unsplitmix64(x: int) -> int:
    """Its inverse: the steps backwards, an exclusive-or with a shift undone by repeating it."""
    x ^= x >> 31 ^ x >> 62
    x = x * pow(0x94D049BB133111EB, -1, WORD) % WORD
    x ^= x >> 27 ^ x >> 54
    x = x * pow(0xBF58476D1CE4E5B9, -1, WORD) % WORD
    return x ^ x >> 30 ^ x >> 60


def scramble(x: int) -> int:
    return int(_scramble(torch.tensor(x))) % WORD


@given(x=words)
@settings(deadline=None, max_examples=200)
def test_the_key_of_an_id_is_splitmix64_of_it(x: int) -> None:
    assert scramble(x) == splitmix64(x % WORD)


@given(x=words)
@settings(deadline=None, max_examples=200)
def test_no_two_ids_share_a_key_because_the_way_back_is_known(x: int) -> None:
    assert unsplitmix64(scramble(x)) == x % WORD


def test_the_reference_is_the_generator_that_the_world_knows() -> None:
    """SplitMix64 seeded with 1234567, the first numbers: as in every port of it."""
    state, gamma = 1234567, 0x9E3779B97F4A7C15
    first = [splitmix64((state + gamma * i) % WORD) for i in (1, 2, 3)]
    assert first == [6457827717110365317, 3203168211198807973, 9817491932198370423]


scores = st.lists(st.floats(-5, 5).map(lambda x: round(x, 0)), min_size=1, max_size=12)


@given(values=scores, k=st.integers(1, 15), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=150)
def test_they_are_the_k_highest_highest_first(values: list[float], k: int, seed: int) -> None:
    query = top(torch.tensor(values), k, torch.arange(len(values)), seeded(seed))
    assert query.scores.tolist() == sorted(values, reverse=True)[:k]
    assert [values[row] for row in query.rows] == query.scores.tolist()
    assert len(set(query.rows.tolist())) == min(k, len(values))
    assert (query.rows.dtype, query.scores.dtype) == (torch.int64, torch.float64)


@given(values=scores, order=st.randoms(use_true_random=False), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=150)
def test_permuting_the_pool_changes_no_choice_though_scores_are_equal(values: list[float], order, seed: int) -> None:
    """The same images in the same order come out, wherever each of them lies."""
    ids = torch.arange(len(values)) * 7 + 3
    shuffled = list(range(len(values)))
    order.shuffle(shuffled)
    one = top(torch.tensor(values), 5, ids, seeded(seed))
    two = top(torch.tensor(values)[shuffled], 5, ids[shuffled], seeded(seed))
    assert ids[one.rows].tolist() == ids[shuffled][two.rows].tolist()


@given(values=scores, k=st.integers(0, 15), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=150)
def test_of_equals_the_lowest_key_is_first(values: list[float], k: int, seed: int) -> None:
    key = torch.randperm(len(values), generator=seeded(seed))
    rows = highest(torch.tensor(values), k, key).tolist()
    assert rows == sorted(range(len(values)), key=lambda row: (-values[row], int(key[row])))[:k]


def test_infinite_scores_are_the_highest_and_the_lowest() -> None:
    values = torch.tensor([0.0, torch.inf, -torch.inf, torch.inf, 5.0])
    assert highest(values, 5, torch.arange(5)).tolist() == [1, 3, 4, 0, 2]


def test_no_two_ids_have_one_key_and_a_shuffle_is_in_their_order() -> None:
    ids = torch.arange(-500, 500) * 2**40
    key = keys(ids, seeded(4))
    assert len(key.unique()) == 1000
    assert torch.equal(key.sort().values, key[shuffled(ids, seeded(4))])


@pytest.mark.parametrize("rows", [1, 6, 7, 8, 20])
def test_scoring_by_chunks_is_scoring(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "CHUNK", 7)
    logits, seen = torch.randn(rows, 3, generator=seeded()), []
    scored = by_chunk(lambda some: seen.append(len(some)) or some.logsumexp(1), logits)
    assert torch.equal(scored, logits.logsumexp(1))
    assert max(seen) <= 7


@pytest.mark.parametrize(("first", "step"), [(0, 1), (0, 2**40), (10**6, -1)])
def test_among_equals_no_place_and_no_id_is_favoured(first: int, step: int) -> None:
    """4000 seeded draws of 2 of 8: each comes 1000 times, give or take 5 standard deviations of the binomial."""
    ids = first + step * torch.arange(8)
    counts = Counter(row for seed in range(4000) for row in top(torch.zeros(8), 2, ids, seeded(seed)).rows.tolist())
    assert all(abs(counts[row] - 1000) < 5 * (4000 * 0.25 * 0.75) ** 0.5 for row in range(8))


def test_another_seed_orders_equals_otherwise() -> None:
    one, two = (top(torch.zeros(50), 50, torch.arange(50), seeded(seed)).rows for seed in (0, 1))
    assert not torch.equal(one, two)


def test_the_order_of_equals_has_nothing_to_do_with_that_of_the_ids() -> None:
    orders = [top(torch.zeros(300), 300, torch.arange(300), seeded(seed)).rows for seed in range(20)]
    with_ids = [torch.corrcoef(torch.stack([order, torch.arange(300)]).double())[0, 1].abs() for order in orders]
    assert sum(with_ids) / 20 < 0.1


def test_it_draws_once_whatever_the_pool_and_leaves_the_scores_alone() -> None:
    small, large = seeded(3), seeded(3)
    values = torch.rand(5)
    before = values.clone()
    top(values, 2, torch.arange(5), small)
    top(torch.rand(500), 100, torch.arange(500), large)
    assert torch.equal(torch.rand(4, generator=small), torch.rand(4, generator=large))
    assert torch.equal(values, before)
