"""Ranges: what is inside, what is outside, and how a range is said."""

import math
from typing import get_args

import pytest

from kdal_cli.values import Count, Natural, NonNegative, Positive, Share, Within

RANGES = {"Count": Count, "Natural": Natural, "Positive": Positive, "NonNegative": NonNegative, "Share": Share}


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("Count", [1, 10**18], [0, -1]),
        ("Natural", [0, 5], [-1]),
        ("Positive", [5e-324, 1.0, 1e308], [0.0, -1e-9, math.inf, math.nan]),
        ("NonNegative", [0.0, 2.5], [-1e-9, math.inf, math.nan]),
        ("Share", [0, 0.5, 1], [-0.001, 1.001, math.nan, -math.inf]),
    ],
)
def test_every_range_knows_what_is_inside(name: str, inside: list[float], outside: list[float]) -> None:
    _, limit = get_args(RANGES[name])
    assert all(value in limit for value in inside)
    assert not any(value in limit for value in outside)


@pytest.mark.parametrize("name", RANGES)
def test_a_whole_number_too_large_for_a_float_is_inside_or_outside_and_no_overflow(name: str) -> None:
    _, limit = get_args(RANGES[name])
    assert (10**400 in limit) in (True, False)
    assert -(10**400) not in limit


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (Within(1), "at least 1"),
        (Within(0, above=True), "above 0"),
        (Within(0, 1), "from 0 to 1"),
        (Within(-0.5, 0.5), "from -0.5 to 0.5"),
    ],
)
def test_a_range_says_itself_in_words(limit: Within, words: str) -> None:
    assert str(limit) == words
