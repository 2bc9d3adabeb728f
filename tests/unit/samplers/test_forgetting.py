"""Changes of mind between rounds, counted by hand.

N images, C classes.
"""

import weakref
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator

from kdal_cli.samplers.forgetting import changes, forgetting


def spelled(*histories: str) -> list[torch.Tensor]:
    """One word an image, one letter a round -> predictions (N,) of each round."""
    return [torch.tensor([ord(letter) - ord("a") for letter in letters]) for letters in zip(*histories, strict=True)]


def remembering(make_pool, *histories: str):
    """A pool whose images were predicted so, last of all by the scorer; and which rounds were asked for."""
    asked: list[int] = []
    students = [make_pool(4 * torch.eye(3)[labels]).scorer for labels in spelled(*histories)]

    def past(rounds: int) -> Iterator:
        asked.append(rounds)
        return iter(students[:-1][-rounds:])

    return replace(make_pool(students[-1].answers), past=past), asked


@pytest.mark.parametrize(
    ("history", "count"), [("a", 0), ("aaaa", 0), ("aab", 1), ("aba", 2), ("abab", 3), ("abcc", 2), ("baaa", 1)]
)
def test_every_change_counts_back_and_forth_as_well(history: str, count: int) -> None:
    assert changes(spelled(history)).tolist() == [count]


@given(histories=st.integers(1, 6).flatmap(lambda n: st.lists(st.text("abc", min_size=n, max_size=n), min_size=1)))
def test_changes_are_those_of_each_image(histories: list[str]) -> None:
    expected = [sum(one != two for one, two in pairwise(history)) for history in histories]
    assert changes(spelled(*histories)).tolist() == expected


def test_predictions_are_left_as_they_were() -> None:
    rounds = spelled("abc", "bbb")
    changes(rounds)
    assert [labels.tolist() for labels in rounds] == [[0, 1], [1, 1], [2, 1]]


def test_the_sampler_takes_the_most_fickle_and_the_present_student_counts(make_pool, rng: Generator) -> None:
    pool, asked = remembering(make_pool, "aaaa", "acbc", "aaab", "bcbb", "bbbb")
    query = forgetting(pool, 3, rng, rounds=3)
    assert query.rows.tolist() == [1, 3, 2]
    assert query.scores.tolist() == [3, 2, 1]
    assert asked == [3]


@pytest.mark.parametrize(("rounds", "scores"), [(1, [1, 0]), (2, [1, 0]), (3, [2, 1]), (9, [3, 1])])
def test_only_the_latest_rounds_count(rounds: int, scores: list[int], make_pool, rng: Generator) -> None:
    pool, _ = remembering(make_pool, "abaab", "aabbb")
    query = forgetting(pool, 2, rng, rounds=rounds)
    assert query.scores[query.rows.argsort()].tolist() == scores


def test_without_a_history_every_score_is_zero_and_the_choice_is_random(make_pool) -> None:
    pool = make_pool(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)))
    queries = [forgetting(pool, 4, torch.Generator().manual_seed(seed)) for seed in range(5)]
    assert all(query.scores.tolist() == [0, 0, 0, 0] for query in queries)
    assert len({tuple(query.rows.tolist()) for query in queries}) == 5


def test_of_an_earlier_student_nothing_but_its_predictions_is_kept(make_pool, rng: Generator) -> None:
    answers: list[weakref.ref] = []

    def past(rounds: int) -> Iterator:
        for i in range(rounds):
            assert i < 2 or answers[i - 2]() is None
            student = make_pool(torch.eye(3)[:2]).scorer
            answers.append(weakref.ref(student.answers))
            student.logits = lambda ids, given=student.answers: given
            yield student
            del student

    forgetting(replace(make_pool(torch.zeros(2, 3)), past=past), 1, rng, rounds=4)
    assert len(answers) == 4
