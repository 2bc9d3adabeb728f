"""Quotas against every other way to share out the picks, and the sampler within each class.

N images, M labelled, C classes.
"""

from dataclasses import replace
from functools import partial
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from kdal_cli.samplers.badge import badge
from kdal_cli.samplers.balanced import balanced, turns
from kdal_cli.samplers.bald import bald
from kdal_cli.samplers.coreset import coreset
from kdal_cli.samplers.entropy import entropy
from kdal_cli.samplers.margin import margin, margin_score
from kdal_cli.samplers.mix import mix
from kdal_cli.samplers.random import random
from kdal_cli.samplers.subsample import subsample

SAMPLERS = {f.__name__: f for f in (badge, bald, coreset, entropy, margin, mix, random, subsample)}
every_sampler = pytest.mark.parametrize("of", SAMPLERS.values(), ids=SAMPLERS)
classes = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=4)


def rng(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def counts(labelled: list[int], order: list[int]) -> list[int]:
    return [n + order.count(c) for c, n in enumerate(labelled)]


def in_turn(given: list[tuple[int, int]], k: int, seed: int = 0) -> list[int]:
    labelled, available = torch.tensor(given).T
    return turns(labelled, available, k, rng(seed))


@given(given=classes, k=st.integers(1, 9), seed=st.integers(0, 9))
def test_no_other_quotas_make_labels_more_equal(given: list[tuple[int, int]], k: int, seed: int) -> None:
    """Neither by the sum of squares nor, the poorest class first, by the sorted numbers of labels."""
    labelled, available = [n for n, _ in given], [a for _, a in given]
    order = in_turn(given, k, seed)
    assert len(order) == min(k, sum(available))
    assert all(order.count(c) <= a for c, a in enumerate(available))
    reached = counts(labelled, order)
    for quotas in product(*(range(a + 1) for a in available)):
        if sum(quotas) == len(order):
            other = [n + q for n, q in zip(labelled, quotas, strict=True)]
            assert sum(n * n for n in other) >= sum(n * n for n in reached)
            assert sorted(other) <= sorted(reached)


@given(given=classes, k=st.integers(1, 9))
def test_each_pick_is_of_a_class_with_the_fewest_labels_of_those_that_have_images(given: list, k: int) -> None:
    labelled, available = [n for n, _ in given], [a for _, a in given]
    for c in in_turn(given, k):
        assert labelled[c] == min(n for n, a in zip(labelled, available, strict=True) if a)
        labelled[c], available[c] = labelled[c] + 1, available[c] - 1


def test_among_equally_poor_classes_none_is_favoured() -> None:
    firsts = [in_turn([(0, 5)] * 4, 1, seed)[0] for seed in range(2000)]
    assert all(abs(firsts.count(c) - 500) < 5 * (2000 * 0.25 * 0.75) ** 0.5 for c in range(4))


def pool_of(make_pool, sizes: list[int], labels: list[int], seed: int = 0):
    """So many images predicted as each class, shuffled, with ids far from rows; and labels that are paid for."""
    predicted = torch.cat([torch.full((n,), c) for c, n in enumerate(sizes)])
    ids = torch.randperm(2 * len(predicted), generator=rng(7))[: len(predicted)]
    logits, features = torch.randn(400, len(sizes), generator=rng(seed)), torch.randn(400, 6, generator=rng(seed + 1))
    logits[ids, predicted] = logits[ids].amax(1) + 0.5 + torch.rand(len(ids), generator=rng(seed + 2))
    pool = make_pool(logits, features, ids)
    return replace(
        pool, labelled_ids=torch.arange(300, 300 + len(labels)), labels=torch.tensor(labels).long()
    ), predicted


def test_labels_of_each_class_become_equal_where_images_suffice(make_pool) -> None:
    pool, predicted = pool_of(make_pool, [30, 5, 2, 0], [0, 0, 0, 0, 1])
    query = balanced(pool, 9, rng())
    assert predicted[query.rows].bincount(minlength=4).tolist() == [2, 5, 2, 0]
    assert predicted[query.rows[:3]].tolist() in ([2, 1, 2], [2, 2, 1])


def test_within_a_class_the_query_is_the_inner_samplers(make_pool) -> None:
    pool, predicted = pool_of(make_pool, [20, 9, 6], [0, 1, 1])
    query, score = balanced(pool, 12, rng(), of=margin), margin_score(pool.logits)
    for c in range(3):
        mine, chosen = (predicted == c).nonzero().squeeze(1), query.rows[predicted[query.rows] == c]
        assert chosen.tolist() == mine[score[mine].argsort(descending=True)][: len(chosen)].tolist()
    assert query.scores.tolist() == score[query.rows].tolist()


@every_sampler
@pytest.mark.parametrize("k", [1, 10, 37, 100])
def test_any_sampler_may_be_inside(of, k: int, make_pool) -> None:
    pool, predicted = pool_of(make_pool, [25, 8, 4, 0], [0] * 6 + [3])
    query = balanced(pool, k, rng(), of=of)
    assert len(query.rows.unique()) == len(query.rows) == len(query.scores) == min(k, 37)
    given = list(zip([6, 0, 0, 1], [25, 8, 4, 0], strict=True))
    assert sorted(predicted[query.rows].tolist()) == sorted(in_turn(given, k))


@every_sampler
def test_wherever_an_image_lies_in_the_pool_it_is_chosen_in_the_same_place(of, make_pool) -> None:
    pool, _ = pool_of(make_pool, [15, 15, 7], [0, 2])
    if of is bald:
        pool.scorer.draws = lambda ids, count, rng: (pool.scorer.answers[ids] * (1 + i) for i in range(count))
    moved = replace(pool, ids=pool.ids[torch.randperm(37, generator=rng(3))])
    one, two = balanced(pool, 9, rng(), of=of), balanced(moved, 9, rng(), of=of)
    assert pool.ids[one.rows].tolist() == moved.ids[two.rows].tolist()
    torch.testing.assert_close(one.scores, two.scores)


@pytest.mark.parametrize("of", [partial(badge, sequential=True), random], ids=["badge", "random"])
def test_the_choice_within_a_class_does_not_hang_on_the_other_classes(of, make_pool) -> None:
    """Each class has a generator of its own."""
    pool, predicted = pool_of(make_pool, [15, 15], [])
    fewer = pool.take(torch.cat([(predicted == 0).nonzero()[:4], (predicted == 1).nonzero()]).squeeze(1))
    chosen: list[Tensor] = []
    for some in (pool, replace(fewer, labelled_ids=torch.arange(300, 303), labels=torch.zeros(3).long())):
        query = balanced(some, 11, rng(), of=of)
        of_one = some.logits[query.rows].argmax(1) == 1
        chosen.append(some.ids[query.rows[of_one]][:5])
    assert chosen[0].tolist() == chosen[1].tolist()
