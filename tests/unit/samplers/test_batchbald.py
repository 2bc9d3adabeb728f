"""Joint information against the sum over all combinations of answers, and the greedy choice against exhaustive search.

N images, C classes, K draws.
"""

import math
from itertools import combinations, pairwise, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.special import entr

from kdal_cli.inference.evidence import Evidence
from kdal_cli.samplers import batchbald as module
from kdal_cli.samplers.bald import bald_score
from kdal_cli.samplers.batchbald import Answers, batchbald, greedy

ALL = 10**6
sizes = st.tuples(st.integers(2, 5), st.integers(4, 6), st.integers(2, 3), st.integers(0, 10**6))


def answers(k: int, n: int, c: int, seed: int, spread: float = 2.0) -> Tensor:
    """Log probabilities (K, N, C)."""
    logits = spread * torch.randn(k, n, c, generator=Generator().manual_seed(seed), dtype=torch.float64)
    return logits.log_softmax(2)


def information(log_probs: Tensor, rows: tuple[int, ...]) -> float:
    """I(y_rows; ω) = H(y_rows) − mean over draws of H(y_rows | ω), from every combination of answers, in nats."""
    probs = log_probs.exp().tolist()
    together, given_draw = 0.0, 0.0
    for combination in product(range(log_probs.shape[2]), repeat=len(rows)):
        each = [math.prod(draw[row][c] for row, c in zip(rows, combination, strict=True)) for draw in probs]
        mean = sum(each) / len(each)
        together -= mean * math.log(mean)
        given_draw -= sum(p * math.log(p) for p in each) / len(each)
    return together - given_draw


def drawing(make_pool, log_probs: Tensor) -> tuple[Evidence, list[tuple[Tensor, Tensor]]]:
    """A pool with these draws, and a record of what they are asked for: ids, and the state of the generator."""
    pool, asked = make_pool(log_probs[0]), []

    def draws(ids: Tensor, count: int, rng: Generator):
        asked.append((ids, rng.get_state()))
        return (each[ids] for each in log_probs)

    pool.scorer.draws = draws
    return pool, asked


@given(size=sizes)
@settings(max_examples=25)
def test_gains_add_up_to_the_information_of_all_chosen_together(size: tuple[int, int, int, int]) -> None:
    log_probs = answers(*size)
    rows, gains = greedy(log_probs, 4, ALL, Generator())
    for m in range(1, 5):
        assert sum(gains[:m]) == pytest.approx(information(log_probs, tuple(rows[:m])), abs=1e-9)
    assert all(one >= two - 1e-12 for one, two in pairwise(gains))
    assert sum(gains) <= math.log(size[0]) + 1e-12


@given(size=sizes)
@settings(max_examples=25)
def test_each_choice_is_the_best_that_exhaustive_search_finds(size: tuple[int, int, int, int]) -> None:
    log_probs = answers(*size)
    rows, _ = greedy(log_probs, 3, ALL, Generator())
    for m in range(3):
        chosen = tuple(rows[:m])
        with_each = [
            information(log_probs, (*chosen, row)) if row not in chosen else -1 for row in range(log_probs.shape[1])
        ]
        assert with_each[rows[m]] >= max(with_each) - 1e-9


@pytest.mark.parametrize("seed", range(8))
def test_together_they_tell_at_least_the_share_of_the_best_batch_that_theory_promises(seed: int) -> None:
    """1 − 1/e of it, for information is submodular (Nemhauser et al. 1978)."""
    log_probs = answers(4, 7, 2, seed)
    rows, _ = greedy(log_probs, 3, ALL, Generator())
    best = max(information(log_probs, rows) for rows in combinations(range(7), 3))
    assert information(log_probs, tuple(rows)) >= (1 - 1 / math.e) * best - 1e-12


def test_the_first_is_the_best_of_bald_and_its_copy_is_not_the_second(make_pool) -> None:
    log_probs = answers(6, 10, 3, 0)
    log_probs = torch.cat([log_probs, log_probs], 1)  # each image twice
    pool, _ = drawing(make_pool, log_probs)
    query = batchbald(pool, 5, Generator().manual_seed(0))
    bald = bald_score(log_probs)
    assert query.scores[0].item() == pytest.approx(float(bald.max()), abs=1e-12)
    assert len(set((query.rows[:4] % 10).tolist())) == 4
    assert len(set((bald.argsort(descending=True)[:4] % 10).tolist())) == 2


@pytest.mark.parametrize("most", [100, 1000])
@pytest.mark.parametrize(("k", "c"), [(5, 2), (12, 4)])
def test_a_sample_of_the_answers_comes_near_to_all_of_them(k: int, c: int, most: int) -> None:
    """On average over seeds there is no error, and the spread shrinks with the root of the sample."""
    log_probs = answers(k, 12, c, 1, spread=1.0)
    every = Answers(log_probs, ALL, Generator())
    for row in range(5):
        every.add(log_probs[:, row])
    exact = every.gain(log_probs.exp())[5:]
    found = []
    for seed in range(40):
        some = Answers(log_probs, most, Generator().manual_seed(seed))
        for row in range(5):
            some.add(log_probs[:, row])
        found.append(some.gain(log_probs.exp())[5:])
    assert some.sampled or c**5 <= most
    assert len(some.log_p) <= most + k
    stack = torch.stack(found)  # (40, n)
    assert (stack >= 0).all()
    assert ((stack.mean(0) - exact).abs() <= 5 * stack.std(0) / math.sqrt(40) + 1e-12).all()
    assert stack.std(0).max() < 0.6 / math.sqrt(most)


def test_a_gain_under_the_beliefs_of_the_sample_errs_less_than_one_less_the_plain_mean_over_draws() -> None:
    """The estimate of the paper takes H(y | ω) from all draws alike, though the sample believes some of them more."""
    log_probs = answers(10, 30, 4, 7, spread=1.0)
    probs = log_probs.exp()
    every = Answers(log_probs, ALL, Generator())
    for row in range(5):
        every.add(log_probs[:, row])
    exact = every.gain(probs)[5:]
    errors, of_the_paper = [], []
    for seed in range(20):
        some = Answers(log_probs, 100, Generator().manual_seed(seed))
        for row in range(5):
            some.add(log_probs[:, row])
        doubt = some.weight @ entr(torch.einsum("sk,knc->snc", some.log_p.softmax(1), probs)).sum(2)
        errors.append(some.gain(probs)[5:] - exact)
        of_the_paper.append((doubt - entr(probs).sum(2).mean(0))[5:] - exact)
    assert torch.stack(errors).square().mean() < 0.5 * torch.stack(of_the_paper).square().mean()


def test_every_draw_has_its_equal_share_of_the_sample_and_each_answer_its_probability() -> None:
    """One image of two answers, sampled 3000 times for each of 3 draws, within 5 standard deviations."""
    log_probs = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.0, 1.0]], dtype=torch.float64).clamp(min=1e-300).log()
    answered = Answers(log_probs[:, None], 1, Generator().manual_seed(0))
    answered.each = 3000
    answered.add(log_probs)
    first = answered.log_p[:, 0].exp().view(3, 3000) > 0.5  # which was answered with the first class
    assert answered.weight.sum().item() == pytest.approx(1)
    for share, p in zip(first.double().mean(1).tolist(), (0.9, 0.5, 0.0), strict=True):
        assert abs(share - p) <= 5 * math.sqrt(p * (1 - p) / 3000)


def test_hundreds_of_images_neither_underflow_nor_tell_more_than_there_is() -> None:
    """The probability of 400 answers is below the smallest number that float64 knows."""
    log_probs = answers(20, 400, 10, 2, spread=0.3)
    answered = Answers(log_probs, 1000, Generator().manual_seed(0))
    gains = []
    for row in range(400):
        gains.append(float(answered.gain(log_probs[:, [row]].exp())))
        answered.add(log_probs[:, row])
    assert answered.log_p.max() < math.log(5e-324)
    assert all(math.isfinite(gain) and gain >= 0 for gain in gains)
    assert sum(gains) == pytest.approx(math.log(20), rel=0.05)


def test_when_everything_is_told_the_rest_follows_in_the_order_of_bald(make_pool) -> None:
    """Two draws, two images whose answer tells which of them is right, and others of which it does not."""
    gaps = torch.tensor([0.1, 2000.0, 0.3, 0.2, 2000.0])
    pool, _ = drawing(make_pool, torch.stack([torch.stack([sign * gaps, 0 * gaps], 1) for sign in (1, -1)]))
    query = batchbald(pool, 5, Generator().manual_seed(1))
    assert set(query.rows[:2].tolist()) == {1, 4}
    assert query.rows[2:].tolist() == [2, 3, 0]
    assert query.scores.tolist() == pytest.approx([math.log(2), 0, 0, 0, 0], abs=1e-12)


def test_only_candidates_are_drawn_again_with_the_same_masks(make_pool) -> None:
    log_probs = answers(5, 30, 3, 3)
    pool, asked = drawing(make_pool, log_probs)
    query = batchbald(pool, 4, Generator().manual_seed(0), candidates=9)
    (ids, state), (again, state_again) = asked
    assert torch.equal(ids, pool.ids)
    assert again.tolist() == bald_score(log_probs).argsort(descending=True)[:9].tolist()
    assert torch.equal(state, state_again)
    assert set(query.rows.tolist()) <= set(again.tolist())


def test_images_left_out_by_bald_could_not_have_been_chosen_while_gains_are_above_theirs(make_pool) -> None:
    log_probs = answers(8, 40, 3, 4)
    pool, _ = drawing(make_pool, log_probs)
    every = batchbald(pool, 6, Generator().manual_seed(0), configurations=ALL)
    some = batchbald(pool, 6, Generator().manual_seed(0), configurations=ALL, candidates=12)
    left_out = bald_score(log_probs).sort(descending=True).values[12]
    safe = int((some.scores > left_out).sum())
    assert safe >= 2
    assert some.rows[:safe].tolist() == every.rows[:safe].tolist()


def test_more_than_the_candidates_may_be_asked_for(make_pool) -> None:
    pool, _ = drawing(make_pool, answers(5, 30, 3, 5))
    assert len(batchbald(pool, 20, Generator().manual_seed(0), candidates=3).rows.unique()) == 20


@pytest.mark.parametrize("seed", range(10))
def test_of_images_that_differ_in_rounding_alone_the_first_is_taken(seed: int) -> None:
    """The second half has the classes of the first in another order."""
    log_probs = answers(7, 20, 5, seed)
    rows, _ = greedy(torch.cat([log_probs, log_probs[:, :, [4, 2, 0, 3, 1]]], 1), 3, 300, Generator().manual_seed(0))
    assert rows[0] == bald_score(log_probs).argmax()
    assert all(row < 20 or row - 20 in rows for row in rows)


def test_equal_gains_are_equal_though_they_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    log_probs = answers(7, 5, 4, 6)[:, torch.arange(60) % 5]
    whole = greedy(log_probs, 8, 300, Generator().manual_seed(0))
    for chunk in (1, 5000, 50000):
        monkeypatch.setattr(module, "CHUNK", chunk)
        rows, gains = greedy(log_probs, 8, 300, Generator().manual_seed(0))
        assert rows == whole[0]
        assert gains == pytest.approx(whole[1], abs=1e-12)
