"""Laws of the split: it divides, it is keyed by its own seed, and a smaller pool lies within a larger one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdal_cli.data._split import Split, split_ids
from kdal_cli.errors import UserError


@st.composite
def splits(draw: st.DrawFn) -> tuple[int, Split]:
    n = draw(st.integers(1, 300))
    validation = draw(st.integers(0, n - 1))
    pool = draw(st.none() | st.integers(1, n - validation))
    return n, Split(validation, pool, draw(st.integers(0, 2**40)))


@given(splits())
def test_pool_and_validation_are_sorted_disjoint_ids_of_the_sizes_asked_for(case: tuple[int, Split]):
    n, split = case
    pool, validation = split_ids(torch.arange(n), split)
    assert pool.dtype == validation.dtype == torch.int64
    assert len(validation) == split.validation
    assert len(pool) == (n - split.validation if split.pool is None else split.pool)
    assert pool.tolist() == sorted(set(pool.tolist()))
    assert validation.tolist() == sorted(set(validation.tolist()))
    assert set(pool.tolist()).isdisjoint(validation.tolist())
    assert set(pool.tolist()) | set(validation.tolist()) <= set(range(n))


@given(splits())
def test_the_same_split_gives_the_same_ids_whatever_the_global_generator(case: tuple[int, Split]):
    n, split = case
    state = torch.get_rng_state()
    first = split_ids(torch.arange(n), split)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    assert all(map(torch.equal, first, split_ids(torch.arange(n), split)))


@given(splits(), st.data())
def test_a_smaller_pool_lies_within_a_larger_one_and_validation_stays(case: tuple[int, Split], data: st.DataObject):
    n, split = case
    pool, validation = split_ids(torch.arange(n), split)
    smaller = Split(split.validation, data.draw(st.integers(1, len(pool))), split.seed)
    inner, same = split_ids(torch.arange(n), smaller)
    assert set(inner.tolist()) <= set(pool.tolist())
    assert torch.equal(same, validation)


def test_another_seed_gives_another_split():
    assert not torch.equal(
        split_ids(torch.arange(1000), Split(100, seed=0))[1], split_ids(torch.arange(1000), Split(100, seed=1))[1]
    )


@pytest.mark.parametrize(("n", "split"), [(10, Split(10)), (10, Split(4, 7)), (10, Split(11)), (0, Split(0))])
def test_a_split_that_does_not_fit_says_how_many_images_there_are(n: int, split: Split):
    with pytest.raises(UserError, match=rf"there are {n} training images"):
        split_ids(torch.arange(n), split)
