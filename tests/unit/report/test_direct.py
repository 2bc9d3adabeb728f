"""Names beside lines: moved as little as possible, never onto each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdal_cli.report.direct import spread

sorted_heights = st.lists(st.floats(0, 100), min_size=1, max_size=8).map(sorted)


@given(sorted_heights)
def test_names_are_apart_in_order_and_within(heights: list[float]) -> None:
    placed = np.array(spread(heights, 5, 0, 100))
    assert (np.diff(placed) >= 5 - 1e-9).all()
    assert placed.min() >= -1e-9
    assert placed.max() <= 100 + 1e-9


def test_names_that_do_not_meet_stay() -> None:
    assert spread([10, 20, 40], 5, 0, 100) == [10, 20, 40]


def test_names_that_meet_share_the_way() -> None:
    assert spread([50, 50, 50], 4, 0, 100) == pytest.approx([46, 50, 54])
    assert spread([50, 52], 4, 0, 100) == pytest.approx([49, 53])


def test_at_the_edge_they_give_way_inwards() -> None:
    assert spread([99, 99], 4, 0, 100) == pytest.approx([96, 100])
    assert spread([1, 1], 4, 0, 100) == pytest.approx([0, 4])
