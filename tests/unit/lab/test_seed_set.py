"""A class-balanced seed set: as many of each class as there can be, drawn, and the same wherever an image lies."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from kdal_cli.dataset import Labels
from kdal_cli.inference.evidence import Evidence
from kdal_cli.lab.seed_set import class_balanced
from kdal_cli.types import Query


def pool(ids: Tensor) -> Evidence:
    """Of which nothing is known: whoever looks fails."""
    none = torch.zeros(0, dtype=torch.int64)
    return Evidence(ids, none, none, 3, None)  # type: ignore[arg-type]


def rng(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def chosen(labels: Tensor, ids: Tensor, k: int, seed: int = 0) -> Query:
    return class_balanced(Labels.complete(labels))(pool(ids), k, rng(seed))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 50), st.integers(0, 2**32))
def test_no_class_has_two_more_than_another_that_has_images_left(classes: list[int], k: int, seed: int) -> None:
    labels = torch.tensor([*classes, 0, 0, 1])  # the last three lie outside the pool
    ids = torch.randperm(len(classes), generator=rng(seed))
    query = chosen(labels, ids, k, seed)
    assert query.rows.dtype == torch.int64
    assert len(query.rows.unique()) == len(query.rows) == len(query.scores) == min(k, len(ids))
    had, has = (labels[some].bincount(minlength=5) for some in (ids, ids[query.rows]))
    left = had > has
    if left.any():
        assert int(has.max()) - int(has[left].min()) <= 1


@pytest.mark.parametrize("k", [3, 9])
def test_in_a_pool_of_many_each_class_has_as_many_and_the_first_ones_are_one_of_each(k: int) -> None:
    labels = torch.tensor([0] * 90 + [1] * 9 + [2] * 3)
    rows = chosen(labels, torch.arange(102), k).rows
    assert labels[rows].bincount().tolist() == [k // 3] * 3
    assert sorted(labels[rows[:3]].tolist()) == [0, 1, 2]


def test_a_class_that_has_fewer_gives_all_and_the_others_the_rest() -> None:
    labels = torch.tensor([0] * 90 + [1] * 9 + [2] * 3)
    assert labels[chosen(labels, torch.arange(102), 60).rows].bincount().tolist() == [48, 9, 3]


def test_which_ones_are_chosen_is_drawn_and_the_same_seed_draws_the_same() -> None:
    labels, ids = torch.arange(300) % 3, torch.arange(300)
    one, same, other = (chosen(labels, ids, 12, seed).rows.tolist() for seed in (0, 0, 1))
    assert one == same
    assert set(one) != set(other)
    firsts = {int(chosen(labels, ids, 1, seed).rows) % 3 for seed in range(40)}
    assert firsts == {0, 1, 2}  # no class is always the first


def test_an_image_is_chosen_wherever_it_lies_in_the_pool() -> None:
    labels, ids = torch.arange(300) % 3, torch.arange(100, 200)
    moved = ids[torch.randperm(100, generator=rng(9))]
    assert ids[chosen(labels, ids, 12).rows].tolist() == moved[chosen(labels, moved, 12).rows].tolist()


def test_it_looks_at_no_model_and_scores_none_above_another() -> None:
    query = chosen(torch.arange(30) % 3, torch.arange(30), 7)
    assert query.scores.tolist() == [0.0] * 7
    assert query.candidates is None
