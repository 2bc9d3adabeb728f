"""Pictures of a study: the same bytes each time, one drawing for both formats, and what is drawn was measured."""

import io
import itertools
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from PIL import Image
from run_folders import run_folder, study

from kdal_cli.report import study_plots
from kdal_cli.report.plots import PALETTE
from kdal_cli.report.study_plots import critical_difference, curves, in_print
from kdal_cli.study.study import Ranking, Study

RANKING = Ranking(["random", "margin", "$x$", "badge"], 6, [3.5, 1.5, 3.0, 2.0], 1.9, [(1, 3, 2), (3, 2, 0)], 0.01)

Panels = list[Axes]


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch) -> Panels:
    """The axes of each picture, as they were when it was saved."""
    seen: Panels = []
    whole = study_plots.picture

    @contextmanager
    def watched(*words, **more) -> Iterator:
        with whole(*words, **more) as (canvas, file):
            yield canvas, file
            seen.extend(canvas.axes)

    monkeypatch.setattr(study_plots, "picture", watched)
    return seen


@pytest.fixture
def found(tmp_path: Path) -> Study:
    for seed, more in ((0, 0.0), (1, 0.02)):
        run_folder(tmp_path, [0.2 + more, 0.5 + more, 0.6 + more], seed=seed)
        run_folder(tmp_path, [0.2 + more, 0.6 + more, 0.7 + more], seed=seed, sampler="margin")
    run_folder(tmp_path, [0.25, 0.55], seed=2, done=False)
    return study(tmp_path)


def lines(axes: Axes) -> dict[str, tuple[list[float], list[float], str]]:
    """{label: (x, y, dashes)} of the lines of cells, and of the others by number."""
    return {
        str(line.get_label()).split("  ")[0]: (
            list(line.get_xdata()),
            list(line.get_ydata()),
            str(line.get_linestyle()),
        )
        for line in axes.lines
    }


def test_both_formats_are_the_same_bytes_each_time_without_a_date(found: Study) -> None:
    png, svg = curves(found, found.blocks), curves(found, found.blocks, "svg")
    assert (png, svg) == (curves(found, found.blocks), curves(found, found.blocks, "svg"))
    assert Image.open(io.BytesIO(png)).size == (1575, 744)
    assert b"date" not in svg
    assert b"matplotlib.org" not in svg


def test_an_svg_needs_no_font_and_nothing_from_outside(found: Study) -> None:
    for svg in (curves(found, found.blocks, "svg"), critical_difference(RANKING, "svg")):
        elements = list(ET.fromstring(svg).iter())
        assert not [element for element in elements if element.tag.endswith(("}text", "}script", "}image"))]
        links = [value for element in elements for key, value in element.attrib.items() if key.endswith("href")]
        assert links
        assert all(link.startswith("#") for link in links)


def test_lines_are_means_in_percent_and_unfinished_runs_are_dashed(found: Study, panels: Panels) -> None:
    curves(found, found.blocks)
    (axes,) = panels
    drawn = lines(axes)
    assert drawn["margin"][0] == [10, 20, 30]
    assert drawn["margin"][1] == pytest.approx([21, 61, 71])
    assert (drawn["margin"][2], drawn["random"][2]) == ("-", "-.")
    (unfinished,) = [line for line in axes.lines if list(line.get_xdata()) == [10, 20]]
    assert unfinished.get_linestyle() == "--"
    assert list(unfinished.get_ydata()) == pytest.approx([25, 55])
    assert not axes.collections  # of two seeds each is a thin line
    assert sum(len(line.get_xdata()) == 3 and line.get_linewidth() < 1 for line in axes.lines) == 4
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("labels bought", "test accuracy, %")


def test_two_seeds_do_not_hide_the_means_behind_their_bands(tmp_path: Path, panels: Panels) -> None:
    for seed, last in ((0, 0.5), (1, 0.7)):  # an interval of 127 points
        run_folder(tmp_path, [0.4, last], seed=seed)
    found = study(tmp_path)
    curves(found, found.blocks)
    low, high = panels[0].get_ylim()
    assert 20 < low < 40
    assert 60 < high < 80


def test_one_seed_has_no_band_and_the_picture_says_so(tmp_path: Path, panels: Panels) -> None:
    run_folder(tmp_path, [0.4, 0.5])
    found = study(tmp_path)
    curves(found, found.blocks)
    assert not panels[0].collections
    figure = panels[0].get_figure()
    assert figure is not None
    assert "one seed: no interval" in [text.get_text() for text in figure.texts]


def test_of_thirty_cells_the_best_and_the_baseline_are_named_and_the_others_grey(
    tmp_path: Path, panels: Panels
) -> None:
    run_folder(tmp_path, [0.2, 0.21])
    for place in range(29):
        run_folder(tmp_path, [0.2, 0.3 + 0.01 * place], sampler=f"s{place}")
    found = study(tmp_path)
    curves(found, found.blocks)
    named = {text.get_text() for text in panels[0].texts}
    best = {f"s{place} {30 + place}.00" for place in range(23, 29)}
    assert named == best | {"random 21.00", "target 21.00", "23 others"}
    assert len(panels[0].lines) == 30 + 1 + len(named)


def test_from_five_seeds_on_intervals_are_bands(tmp_path: Path, panels: Panels) -> None:
    for seed in range(5):
        run_folder(tmp_path, [0.4, 0.5 + seed / 100], seed=seed)
    found = study(tmp_path)
    curves(found, found.blocks)
    assert len(panels[0].collections) == 1


def test_of_more_than_three_curves_intervals_are_bars_and_a_common_start_takes_no_room(
    tmp_path: Path, panels: Panels
) -> None:
    for seed in range(5):
        for place in range(4):
            run_folder(tmp_path, [0.1 + 0.2 * seed, 0.6 + place / 50 + seed / 100], seed=seed, sampler=f"s{place}")
    found = study(tmp_path)
    curves(found, found.blocks)
    bars = [len(collection.get_segments()) for collection in panels[0].collections]
    assert bars == [2] * 4
    assert panels[0].get_ylim()[0] > 40  # the mean is 50 there, the interval from 11 to 89


def test_ticks_are_where_labels_were_bought_and_their_numbers_do_not_touch(tmp_path: Path, panels: Panels) -> None:
    run_folder(tmp_path, [0.2 + place / 50 for place in range(30)])
    found = study(tmp_path)
    curves(found, found.blocks, "pdf", in_print(3.25))
    told, untold = panels[0].get_xticks(), panels[0].get_xticks(minor=True)
    assert sorted({*told, *untold}) == [10 * (place + 1) for place in range(30)]
    assert 3 <= len(told) <= 8


def test_a_figure_for_print_is_as_wide_as_asked_without_a_headline(found: Study, panels: Panels) -> None:
    pdf = curves(found, found.blocks, "pdf", in_print(3.25))
    assert pdf == curves(found, found.blocks, "pdf", in_print(3.25))
    assert b"/MediaBox [ 0 0 234 " in pdf  # points
    assert b"CreationDate" not in pdf
    figure = panels[0].get_figure()
    assert figure is not None
    assert {text.get_text() for text in figure.texts} <= {""}


def lightness(colour: str) -> float:
    """CIE L*, from 0 to 100."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 116 * (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]) ** (1 / 3) - 16


def test_colours_that_are_neighbours_differ_in_grey_and_stand_out_from_white() -> None:
    greys = [lightness(colour) for colour in PALETTE]
    assert all(abs(a - b) >= 10 for a, b in itertools.pairwise(greys))
    assert max(greys) < 72


def test_the_best_three_are_told_apart_by_the_colour_blind() -> None:
    """Viénot, Brettel and Mollon 1999: without the long or the middle cones."""
    blind = ([[0.1121, 0.8853, -0.0005], [0.1127, 0.8897, -0.0001], [0.0045, 0.0000, 1.0019]],
             [[0.2920, 0.7054, -0.0003], [0.2934, 0.7089, 0.0000], [-0.0210, 0.0256, 1.0019]])  # fmt: skip
    for matrix in blind:
        seen = [(np.array(matrix) @ np.array(to_rgb(colour)) ** 2.2).clip(0) ** (1 / 2.2) for colour in PALETTE[:3]]
        assert min(np.abs(a - b).max() for a, b in itertools.combinations(seen, 2)) > 0.15


def test_nats_are_no_percent(found: Study, tmp_path: Path, panels: Panels) -> None:
    again = study(tmp_path, figure="test_nll")
    curves(again, again.blocks)
    assert panels[0].get_ylabel() == "test NLL, nats"
    assert lines(panels[0])["margin"][1] == pytest.approx([0.79, 0.39, 0.29])


def test_a_panel_for_each_data_set(tmp_path: Path, panels: Panels) -> None:
    for data in ("digits", "mnist"):
        for sampler in ("random", "margin"):
            run_folder(tmp_path, [0.2, 0.5], sampler=sampler, data=data)
    found = study(tmp_path)
    png = curves(found, found.blocks)
    assert [axes.get_title(loc="left") for axes in panels] == ["digits", "mnist"]
    assert Image.open(io.BytesIO(png)).height > 1400


def test_runs_without_rounds_are_points_with_intervals_the_best_on_top(tmp_path: Path, panels: Panels) -> None:
    for loss, end in (("none", 0.6), ("kd", 0.7)):
        for seed in range(3):
            run_folder(tmp_path, [end + 0.01 * seed], seed=seed, loss=loss, stage="distill")
    found = study(tmp_path)
    curves(found, found.blocks)
    (axes,) = panels
    assert [label.get_text() for label in axes.get_yticklabels()] == ["kd", "none (baseline)"]
    assert list(axes.lines[0].get_xdata()) == pytest.approx([70, 71, 72])
    assert axes.yaxis_inverted()


def test_names_from_outside_are_drawn_and_not_obeyed(tmp_path: Path) -> None:
    for sampler in ("$\\frac{$", "<b>&\x1b[2J", "鹿" * 80):
        run_folder(tmp_path, [0.2, 0.5], sampler=sampler, data="$x$")
    found = study(tmp_path)
    ET.fromstring(curves(found, found.blocks, "svg"))


def test_a_diagram_of_ranks_has_a_bar_for_each_group_and_the_best_to_the_left(panels: Panels) -> None:
    assert critical_difference(RANKING) == critical_difference(RANKING)
    axes = panels[0]
    bars = [list(line.get_xdata()) for line in axes.lines if line.get_linewidth() == 4]
    assert bars == [pytest.approx([1.47, 3.03]), pytest.approx([1.97, 3.53])]
    places = {text.get_text().strip(): text.get_position() for text in axes.texts}
    assert places["margin  1.50"][0] == places["badge  2.00"][0] == 1
    assert places["3.50  random"][0] == places["3.00  $x$"][0] == 4
    assert places["margin  1.50"][1] > places["badge  2.00"][1]
    assert "critical difference 1.90" in places


def test_a_diagram_of_thirty_methods_has_room_for_all_of_them(panels: Panels) -> None:
    names = [f"method {i}" for i in range(30)]
    critical_difference(Ranking(names, 9, [1.0 + i for i in range(30)], 15.0, [tuple(range(15))], 0.0))
    heights = sorted(text.get_position()[1] for text in panels[0].texts if "method" in text.get_text())
    assert heights[0] > panels[0].get_ylim()[0]
    assert len(heights) == 30


def test_a_target_beyond_the_panel_is_not_drawn(tmp_path: Path, panels: Panels) -> None:
    run_folder(tmp_path, [0.2, 0.3])
    found = study(tmp_path, target=0.9)
    curves(found, found.blocks)
    assert not [text for text in panels[0].texts if text.get_text().startswith("target")]
