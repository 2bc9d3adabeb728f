"""Randomness by address: the same address draws the same, another one draws anew, and nobody else notices."""

import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdal_cli.streams import Streams

words = st.one_of(st.integers(0, 99), st.text("abcdefgh-_", min_size=1, max_size=8))
addresses = st.lists(words, min_size=1, max_size=4)


def test_the_same_address_gives_the_same_draws_twice() -> None:
    one, two = (torch.rand(8, generator=Streams(3).at("sampler", 2)) for _ in range(2))
    assert torch.equal(one, two)


@given(one=addresses, two=addresses, seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=200)
def test_different_addresses_have_different_keys(one: list, two: list, seed: int) -> None:
    if list(map(str, one)) != list(map(str, two)):
        assert Streams(seed).key(*one) != Streams(seed).key(*two)
    assert Streams(seed).key(*one) != Streams(seed + 1).key(*one)


@given(path=addresses, rest=addresses)
@settings(deadline=None, max_examples=50)
def test_an_address_may_be_walked_in_steps(path: list, rest: list) -> None:
    assert Streams(5).under(*path).key(*rest) == Streams(5).key(*path, *rest)


def test_a_key_is_63_bits_of_the_hash_of_seed_and_address_and_so_the_same_in_every_version() -> None:
    """Were it to change, a resumed run would go on with other picks."""
    digest = hashlib.sha256(b"0\x1ffit\x1f3\x1flabelled").hexdigest()
    assert Streams(0).under("fit", 3).key("labelled") == int(digest[:16], 16) // 2


def test_draws_of_neighbouring_addresses_are_uncorrelated() -> None:
    draws = torch.stack([torch.randn(2000, generator=Streams(0).at("fit", round)) for round in range(8)])
    between = torch.corrcoef(draws) - torch.eye(8)
    assert between.abs().max() < 5 / 2000**0.5


def test_a_generator_in_use_moves_no_other() -> None:
    streams = Streams(1)
    first = streams.at("a")
    torch.rand(1000, generator=first)
    assert torch.equal(torch.rand(4, generator=streams.at("b")), torch.rand(4, generator=Streams(1).at("b")))


def test_what_takes_no_generator_is_seeded_by_the_address_and_by_nothing_else() -> None:
    torch.manual_seed(0)
    with Streams(2).applied("weights", 1):
        one = torch.rand(5)
    torch.manual_seed(999)
    with Streams(2).applied("weights", 1):
        two = torch.rand(5)
    with Streams(2).applied("weights", 2):
        three = torch.rand(5)
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_the_global_generator_is_where_it_was_afterwards() -> None:
    before = torch.get_rng_state()
    with Streams(0).applied("dropout", 7), Streams(0).applied("inner"):
        torch.rand(100)
    assert torch.equal(torch.get_rng_state(), before)


def test_it_is_so_after_an_error_too() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), Streams(0).applied("dropout"):
        torch.rand(1 // 0)
    assert torch.equal(torch.get_rng_state(), before)
