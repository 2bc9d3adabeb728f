"""Laws of the split: it divides, it is keyed by its own seed, and a smaller pool lies within a larger one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdal_cli.dataset import Labels
from kdal_cli.errors import UserError
from kdal_cli.images.split import Split, split_ids
from kdal_cli.images.split import test_ids as ids_to_test


def every(n: int) -> Labels:
    return Labels.complete(torch.zeros(n, dtype=torch.int64))


@st.composite
def splits(draw: st.DrawFn) -> tuple[int, Split]:
    n = draw(st.integers(1, 300))
    validation = draw(st.integers(0, n - 1))
    pool = draw(st.none() | st.integers(1, n - validation))
    left = n - validation - (pool or 1)
    teacher = draw(st.none() | st.integers(1, left)) if left else None
    return n, Split(validation, pool, teacher, draw(st.integers(0, 2**40)))


@given(splits())
def test_the_parts_are_sorted_disjoint_ids_of_the_sizes_asked_for(case: tuple[int, Split]):
    n, split = case
    ids, taught = split_ids(torch.arange(n), every(n), split), split.teacher or 0
    assert len(ids.validation) == split.validation
    assert len(ids.pool) == (n - split.validation - taught if split.pool is None else split.pool)
    for part in (ids.pool, ids.validation, ids.teacher):
        assert part.dtype == torch.int64
        assert part.tolist() == sorted(set(part.tolist()))
        assert set(part.tolist()) <= set(range(n))
    assert set(ids.pool.tolist()).isdisjoint(ids.validation.tolist())
    if split.teacher is None:
        assert torch.equal(ids.teacher, ids.pool)
    else:
        assert len(ids.teacher) == split.teacher
        assert set(ids.teacher.tolist()).isdisjoint([*ids.pool.tolist(), *ids.validation.tolist()])


@given(splits())
def test_the_same_split_gives_the_same_ids_whatever_the_global_generator(case: tuple[int, Split]):
    n, split = case
    state = torch.get_rng_state()
    first = split_ids(torch.arange(n), every(n), split)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    again = split_ids(torch.arange(n), every(n), split)
    assert all(torch.equal(part, vars(again)[name]) for name, part in vars(first).items())


@given(splits(), st.data())
def test_a_smaller_pool_lies_within_a_larger_one_and_validation_stays(case: tuple[int, Split], data: st.DataObject):
    n, split = case
    ids = split_ids(torch.arange(n), every(n), split)
    smaller = Split(split.validation, data.draw(st.integers(1, len(ids.pool))), split.teacher, split.seed)
    inner = split_ids(torch.arange(n), every(n), smaller)
    assert set(inner.pool.tolist()) <= set(ids.pool.tolist())
    assert torch.equal(inner.validation, ids.validation)
    assert split.teacher is None or torch.equal(inner.teacher, ids.teacher)


def test_another_seed_gives_another_split():
    one, two = (split_ids(torch.arange(1000), every(1000), Split(100, seed=seed)) for seed in (0, 1))
    assert not torch.equal(one.validation, two.validation)


@pytest.mark.parametrize(
    ("n", "split"),
    [(10, Split(10)), (10, Split(4, 7)), (10, Split(11)), (0, Split(0)), (10, Split(4, 3, 4)), (10, Split(4, None, 6))],
)
def test_a_split_that_does_not_fit_says_how_many_images_there_are(n: int, split: Split):
    with pytest.raises(UserError, match=rf"there are {n} training images"):
        split_ids(torch.arange(n), every(n), split)


@given(splits())
def test_validation_images_of_their_own_are_kept_and_none_are_held_out(case: tuple[int, Split]):
    n, split = case
    own = torch.tensor([n + 2, n])
    ids = split_ids(torch.arange(n), every(n), split, own)
    assert ids.validation.tolist() == [n, n + 2]
    assert len(ids.pool) == (n - (split.teacher or 0) if split.pool is None else split.pool)
    assert max(ids.pool.tolist()) < n


def test_validation_below_one_is_a_share_of_the_images() -> None:
    divided = split_ids(torch.arange(60), every(60), Split(validation=0.1))
    assert (len(divided.validation), len(divided.pool)) == (6, 54)
    assert len(split_ids(torch.arange(4), every(4), Split(validation=0.1)).validation) == 1
    assert len(split_ids(torch.arange(4), every(4), Split(validation=0.0)).validation) == 0


def test_images_without_a_label_are_in_the_pool_alone() -> None:
    known = torch.arange(0, 60, 2)
    labels = Labels(60, known, torch.zeros(30, dtype=torch.int64))
    ids = split_ids(torch.arange(60), labels, Split(validation=0.2, teacher=5))
    assert (len(ids.validation), len(ids.teacher), len(ids.pool)) == (6, 5, 49)  # a fifth of the 30 that have a label
    assert torch.isin(torch.cat([ids.validation, ids.teacher]), known).all()
    assert torch.cat([ids.pool, ids.validation, ids.teacher]).sort().values.tolist() == list(range(60))
    assert torch.equal(split_ids(torch.arange(60), labels, Split(validation=0)).teacher, known)


def test_without_any_label_all_images_are_the_pool_and_more_labels_than_there_are_is_refused() -> None:
    none = torch.empty(0, dtype=torch.int64)
    ids = split_ids(torch.arange(9), Labels(9, none, none), Split(validation=0.1))
    assert (len(ids.pool), len(ids.validation), len(ids.teacher)) == (9, 0, 0)
    labels = Labels(9, torch.tensor([3, 4]), torch.tensor([0, 1]))
    with pytest.raises(UserError, match=r"^2 of 9 training images have a label, not 3 for validation and 0 for"):
        split_ids(torch.arange(9), labels, Split(validation=3))


def test_where_no_image_has_a_label_those_for_validation_are_bought() -> None:
    none = torch.empty(0, dtype=torch.int64)
    ids = split_ids(torch.arange(50), Labels(50, none, none), Split(validation=7))
    assert (len(ids.validation), len(ids.pool), len(ids.teacher)) == (7, 43, 0)


def test_test_images_are_drawn_from_all_by_the_seed_of_the_split() -> None:
    ids = torch.arange(100, 160)
    one, same, other = (ids_to_test(ids, Split(0, seed=seed, test=20)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert len(one.unique()) == 20
    assert set(one.tolist()) <= set(ids.tolist())
    assert len(ids_to_test(ids, Split(0))) == 0


def test_test_images_leave_others() -> None:
    with pytest.raises(UserError, match=r"data.split.test=60 \(there are 60 images\): at most 59"):
        ids_to_test(torch.arange(60), Split(0, test=60))
