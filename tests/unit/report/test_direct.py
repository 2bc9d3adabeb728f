"""Names beside lines: moved as little as possible, never onto each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from kdal_cli.report.direct import End, name_ends, spread

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


@pytest.mark.parametrize("text", ["short", "loss=none sampler=random 97.33 ± 0.32", "W" * 24])
def test_the_widest_name_ends_within_the_picture_and_a_short_one_moves_nothing(text: str) -> None:
    figure = Figure(figsize=(10, 4))
    axes = figure.add_axes((0.1, 0.1, 0.62, 0.8))
    axes.plot([0, 1], [0, 1])
    name_ends(axes, [End(1, 0.5, text, "black"), End(1, 0.9, "short", "black")], 9)
    whole = figure.bbox.width
    assert max(name.get_window_extent().x1 for name in axes.texts) <= whole
    assert (axes.get_position().width == pytest.approx(0.62)) == (text == "short")
