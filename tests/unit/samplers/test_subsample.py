"""A random part of the pool, and nothing looked at beyond it.

N images, S candidates.
"""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from kdal_cli.samplers.coreset import coreset
from kdal_cli.samplers.margin import margin, margin_score
from kdal_cli.samplers.random import random
from kdal_cli.samplers.subsample import subsample


def rng(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def watched(make_pool, n: int = 60):
    """A pool with ids far from rows, and the ids that its scorer was asked about."""
    logits, asked = torch.randn(200, 4, generator=rng(1)), []
    pool = make_pool(logits, torch.randn(200, 3, generator=rng(2)), torch.randperm(200, generator=rng(3))[:n])
    scorer = pool.scorer
    look = scorer.look

    def looking(ids: Tensor) -> tuple[Tensor, Tensor]:
        asked.extend(ids.tolist())
        return look(ids)

    scorer.look, scorer.logits = looking, lambda ids: looking(ids)[0]
    return pool, asked


@pytest.mark.parametrize("of", [margin, coreset])
def test_the_model_looks_at_the_candidates_alone_and_they_are_recorded(of, make_pool) -> None:
    pool, asked = watched(make_pool)
    query = subsample(pool, 5, rng(), of=of, candidates=20)
    assert query.candidates is not None
    assert asked == pool.ids[query.candidates].tolist()
    assert len(set(asked)) == 20
    assert set(query.rows.tolist()) <= set(query.candidates.tolist())


def test_among_the_candidates_the_inner_sampler_chooses(make_pool) -> None:
    pool, _ = watched(make_pool)
    query = subsample(pool, 5, rng(), of=margin, candidates=20)
    score = margin_score(pool.logits)
    assert query.candidates is not None
    best = query.candidates[score[query.candidates].argsort(descending=True)][:5]
    assert query.rows.tolist() == best.tolist()
    assert query.scores.tolist() == score[best].tolist()


@pytest.mark.parametrize(("k", "looked_at"), [(1, 10), (10, 10), (25, 25), (59, 59), (60, 60), (100, 60)])
def test_as_many_are_looked_at_as_are_asked_for_if_that_is_more(k: int, looked_at: int, make_pool) -> None:
    pool, asked = watched(make_pool)
    query = subsample(pool, k, rng(), candidates=10)
    assert len(query.rows.unique()) == len(query.rows) == min(k, 60)
    assert len(set(asked)) == len(asked) == looked_at


@pytest.mark.parametrize(("candidates", "recorded"), [(59, True), (60, False), (10_000, False)])
def test_of_a_pool_that_is_looked_at_whole_nothing_is_recorded(candidates: int, recorded: bool, make_pool) -> None:
    pool, _ = watched(make_pool)
    query = subsample(pool, 5, rng(), candidates=candidates)
    assert (query.candidates is not None) == recorded
    if not recorded:
        assert query.rows.tolist() == margin(pool, 5, rng()).rows.tolist()


def test_every_image_is_a_candidate_equally_often(make_pool) -> None:
    """1500 draws of 3 of 12, within 5 standard deviations of the binomial."""
    pool = make_pool(torch.zeros(12, 2))
    seen = Counter(
        row
        for seed in range(1500)
        for row in subsample(pool, 1, rng(seed), of=random, candidates=3).candidates.tolist()  # type: ignore[union-attr]
    )
    assert all(abs(seen[row] - 375) < 5 * (1500 * 0.25 * 0.75) ** 0.5 for row in range(12))


def test_of_a_part_of_a_pool_it_takes_the_right_images(make_pool) -> None:
    """Rows of the part are not rows of the whole."""
    pool, _ = watched(make_pool)
    part = pool.take(torch.arange(59, 9, -2))
    alone = replace(pool, ids=part.ids)
    one, two = subsample(part, 4, rng(), candidates=12), subsample(alone, 4, rng(), candidates=12)
    assert one.rows.tolist() == two.rows.tolist()
    assert one.scores.tolist() == margin_score(part.logits)[one.rows].tolist()


def test_wherever_an_image_lies_in_the_pool_it_is_chosen_in_the_same_place(make_pool) -> None:
    pool, _ = watched(make_pool)
    moved = replace(pool, ids=pool.ids.flip(0))
    one, two = (subsample(p, 5, rng(), of=random, candidates=20) for p in (pool, moved))
    assert pool.ids[one.rows].tolist() == moved.ids[two.rows].tolist()
    assert pool.ids[one.candidates].tolist() == moved.ids[two.candidates].tolist()


def test_the_choice_among_candidates_has_nothing_to_do_with_their_draw(make_pool) -> None:
    """Were `random` to order them by the key that drew them, it would always take the first of them."""
    pool = make_pool(torch.zeros(50, 2))
    queries = [subsample(pool, 1, rng(seed), of=random, candidates=10) for seed in range(500)]
    places = Counter(query.candidates.tolist().index(int(query.rows)) for query in queries)  # type: ignore[union-attr]
    assert all(abs(places[place] - 50) < 5 * (500 * 0.1 * 0.9) ** 0.5 for place in range(10))


def test_the_inner_sampler_draws_from_the_seed_as_well(make_pool) -> None:
    pool = make_pool(torch.zeros(50, 2))
    assert len({tuple(subsample(pool, 3, rng(seed), of=random).rows.tolist()) for seed in range(5)}) == 5
