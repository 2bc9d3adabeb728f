"""The game against an adversary, solved in closed form, by a linear program and by trying every move.

N images, g their gains, m of which the adversary takes away.
"""

import math
from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Generator, Tensor

from kdal_cli.errors import UserError
from kdal_cli.samplers.margin import margin, margin_score
from kdal_cli.samplers.robust_active_distillation import gains, log_chances, robust_active_distillation

gain_lists = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=7).map(lambda g: sorted(g, reverse=True))


def chances(gain: list[float], spoiled: float) -> Tensor:
    return log_chances(torch.tensor(gain, dtype=torch.float64), spoiled).exp()


def left_over(p: list[float], gain: list[float], spoiled: int) -> float:
    """What the adversary leaves: it tries every set of so many images."""
    worth = [a * b for a, b in zip(p, gain, strict=True)]
    spoiled = min(spoiled, len(worth))
    return min(sum(worth) - sum(worth[i] for i in some) for some in combinations(range(len(worth)), spoiled))


def best_possible(gain: list[float], spoiled: float) -> float:
    """max_p min_s Σ (1 − s_i) p_i g_i, Σ s = m, 0 ≤ s ≤ 1, with the inner problem replaced by its dual.

    Variables p (N), u (N), λ: max Σ p_i g_i − m λ − Σ u_i subject to u_i ≥ p_i g_i − λ, Σ p = 1, all of them ≥ 0.
    """
    n = len(gain)
    dual = np.hstack([np.diag(gain), -np.eye(n), -np.ones((n, 1))])
    total = np.array([[1.0] * n + [0.0] * (n + 1)])
    cost = np.array([*(-np.array(gain)), *np.ones(n), spoiled])
    return -linprog(cost, A_ub=dual, b_ub=np.zeros(n), A_eq=total, b_eq=[1.0]).fun


@given(gain=gain_lists, share=st.floats(0, 1))
def test_no_chances_leave_more_than_these_says_the_linear_program(gain: list[float], share: float) -> None:
    """m need not be whole: a share of N is not."""
    spoiled = share * len(gain)
    p = chances(gain, spoiled)
    worth = (p * torch.tensor(gain, dtype=torch.float64)).sort(descending=True).values
    taken = worth[: int(spoiled)].sum() + (spoiled - int(spoiled)) * worth[int(spoiled) : int(spoiled) + 1].sum()
    assert float(worth.sum() - taken) == pytest.approx(best_possible(gain, spoiled), abs=1e-7)  # the solver's tolerance


@given(gain=gain_lists, spoiled=st.integers(0, 4), seed=st.integers(0, 99))
def test_nor_does_any_other_draw_leave_more_against_every_move(gain: list[float], spoiled: int, seed: int) -> None:
    p = chances(gain, spoiled).tolist()
    value = left_over(p, gain, spoiled)
    assert sum(p) == pytest.approx(1)
    inverse = np.cumsum(1 / np.array(gain))
    closed = max((i + 1 - spoiled) / inverse[i] for i in range(len(gain)))
    assert value == pytest.approx(max(closed, 0), abs=1e-12)
    others = np.random.default_rng(seed).dirichlet(np.full(len(gain), 0.5), 20)
    assert all(left_over(other.tolist(), gain, spoiled) <= value + 1e-12 for other in others)


def test_the_chances_of_three_images_of_which_one_is_spoiled() -> None:
    """H = 1, 3, 7; (k − 1) / H = 0, 1/3, 2/7: two images, in proportion to 1 and 2."""
    torch.testing.assert_close(chances([1.0, 0.5, 0.25], 1), torch.tensor([1 / 3, 2 / 3, 0]).double())


def test_if_none_is_spoiled_the_best_image_is_as_good_as_certain() -> None:
    assert chances([0.9, 0.5, 0.4], 0).tolist() == pytest.approx([1, 0, 0])


@pytest.mark.parametrize("spoiled", [3, 4, 100])
def test_if_all_are_spoiled_all_that_gain_anything_have_a_chance(spoiled: int) -> None:
    assert chances([0.5, 0.25, 0.25, 0.0], spoiled).tolist() == pytest.approx([0.2, 0.4, 0.4, 0])


def test_gains_of_nothing_and_next_to_nothing_divide_nothing_by_zero() -> None:
    assert chances([0.0, 0.0], 1).tolist() == [0, 0]
    assert chances([0.5, 5e-324, 0.0], 1).tolist() == pytest.approx([0, 1, 0])
    assert chances([0.5, 0.5, 5e-324, 0.0], 1).tolist() == pytest.approx([0.5, 0.5, 0, 0])


@pytest.mark.parametrize("classes", [2, 5])
def test_a_gain_is_one_less_the_margin_and_tells_the_sure_apart(classes: int) -> None:
    logits = 4 * torch.randn(50, classes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(gains(logits), 1 + margin_score(logits), rtol=1e-9, atol=1e-14)
    sure = torch.zeros(3, classes)
    sure[:, 0] = torch.tensor([50.0, 60.0, 70.0])
    assert gains(sure).log().tolist() == pytest.approx([-z + math.log(classes) for z in (50, 60, 70)])
    assert gains(torch.ones(4, 1)).tolist() == [0] * 4


def pool_of(gain: list[float], make_pool):
    """Two classes: a gain of 1 − |p₀ − p₁| = 2 min p."""
    doubt = torch.tensor(gain, dtype=torch.float64) / 2
    return make_pool(torch.stack([(1 - doubt).log(), doubt.log()], 1))


def test_images_are_drawn_one_after_the_other_in_proportion_to_their_chances(make_pool) -> None:
    """m = 2 of gains 1, .8, .5, .4, .05: k* is 4. Within 5 standard deviations of the binomial."""
    gain = [0.5, 1.0, 0.05, 0.4, 0.8]
    pool, order, times = pool_of(gain, make_pool), [1, 4, 0, 3, 2], 1000
    p = dict(zip(order, chances(sorted(gain, reverse=True), 2).tolist(), strict=True))
    assert [row for row in order if p[row] > 0] == [1, 4, 0, 3]
    drawn = Counter()
    for seed in range(times):
        query = robust_active_distillation(pool, 2, torch.Generator().manual_seed(seed), spoiled=0.4)
        drawn[tuple(query.rows.tolist())] += 1
    for i in order:
        for j in set(order) - {i}:
            chance = p[i] * p[j] / (1 - p[i])
            assert abs(drawn[i, j] - times * chance) <= 5 * math.sqrt(times * chance * (1 - chance))


def test_one_image_of_a_small_gain_among_many_of_large_gains_is_drawn_as_often_as_it_should_be(make_pool) -> None:
    """m = 6 of six gains of 1 and one of 1/5: k* is 7, and the last image has 5 chances of 11."""
    pool, times = pool_of([1.0] * 6 + [0.2], make_pool), 600
    firsts = [
        int(robust_active_distillation(pool, 1, torch.Generator().manual_seed(seed), spoiled=6 / 7).rows)
        for seed in range(times)
    ]
    assert abs(firsts.count(6) - times * 5 / 11) <= 5 * math.sqrt(times * 5 / 11 * 6 / 11)


def test_what_has_no_chance_comes_last_and_by_gain(make_pool, rng: Generator) -> None:
    query = robust_active_distillation(pool_of([0.1, 0.9, 0.2, 0.8, 0.15], make_pool), 5, rng, spoiled=0.2)
    assert set(query.rows[:2].tolist()) == {1, 3}
    assert query.rows[2:].tolist() == [2, 4, 0]
    assert query.scores.isinf().tolist() == [False] * 2 + [True] * 3
    assert (query.scores[:2].diff() <= 0).all()


def test_a_teacher_that_never_errs_makes_it_margin(make_pool, rng: Generator) -> None:
    pool = make_pool(torch.randn(30, 4, generator=torch.Generator().manual_seed(1)))
    query = robust_active_distillation(pool, 9, rng, spoiled=0.0)
    assert query.rows.tolist() == margin(pool, 9, rng).rows.tolist()


def judged(pool, right: list[bool], make_pool):
    """With validation images, of which the teacher gets some right."""
    labels = torch.arange(len(right)) % 2
    teacher = make_pool(torch.eye(2)[torch.tensor([int(c) ^ (not ok) for c, ok in zip(labels, right, strict=True)])])
    return replace(pool, teacher=teacher.scorer, validation_ids=torch.arange(len(right)), validation_labels=labels)


@pytest.mark.parametrize("wrong", [0, 1, 2, 5])
def test_null_means_the_teachers_error_on_the_validation_images(wrong: int, make_pool) -> None:
    pool = make_pool(torch.randn(30, 2, generator=torch.Generator().manual_seed(2)))
    measured = judged(pool, [False] * wrong + [True] * (5 - wrong), make_pool)
    for seed in range(5):
        one = robust_active_distillation(measured, 9, torch.Generator().manual_seed(seed))
        two = robust_active_distillation(pool, 9, torch.Generator().manual_seed(seed), spoiled=wrong / 5)
        assert one.rows.tolist() == two.rows.tolist()
        assert one.scores.tolist() == two.scores.tolist()


def test_the_teacher_is_asked_about_validation_images_alone(make_pool, rng: Generator) -> None:
    pool = judged(make_pool(torch.randn(30, 2, generator=rng)), [True, False, True], make_pool)
    robust_active_distillation(pool, 9, rng)  # the teacher knows three images
    assert set(pool.meter.views) == {"scorer_pool", "teacher_validation"}


def test_without_validation_images_it_says_what_to_do(make_pool, rng: Generator) -> None:
    with pytest.raises(UserError, match=r"sampler\.spoiled=null.*0 to 1"):
        robust_active_distillation(make_pool(torch.zeros(5, 2)), 2, rng)
