"""Names beside the ends of lines, in place of a legend: each as near to its line as the others leave room for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

LINE = 1.25
"""Height of a line of text, in its font size."""

PAST, EDGE = 0.02, 0.01
"""Where names begin, to the right of the axes as a share of their width; and what stays free of a picture's width."""


@dataclass(frozen=True)
class End:
    """Where a line ends, in units of its axes, and what is written beside it."""

    x: float
    y: float
    text: str
    colour: str


def name_ends(axes: "Axes", ends: Sequence[End], size: float) -> None:
    """Write names to the right of axes whose place and limits are set, in points of `size`, joined to their lines."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    points = figure.get_size_inches()[1] * axes.get_position().height * 72
    axes.autoscale(False)  # the lines to the names are no data
    (low, high), right = axes.get_ylim(), axes.get_xlim()[1]
    gap = LINE * size / points * (high - low)
    order, names = sorted(ends, key=lambda end: end.y), []
    for end, y in zip(order, spread([end.y for end in order], gap, low + gap / 2, high - gap / 2), strict=True):
        past = right + PAST * (right - axes.get_xlim()[0])
        axes.plot([end.x, past], [end.y, y], color=end.colour, linewidth=0.6, alpha=0.6, clip_on=False, zorder=1)
        name = axes.annotate(
            end.text, (past, y), (2, 0), textcoords="offset points", va="center", fontsize=size, color=end.colour,
            annotation_clip=False,
        )  # fmt: skip
        names.append(name)
    _make_room(axes, names)


def _make_room(axes: "Axes", names: Sequence["Annotation"]) -> None:
    """Narrow the axes until the widest name ends within the picture."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    whole = figure.bbox.width
    over = max((name.get_window_extent().x1 for name in names), default=0.0) / whole - (1 - EDGE)
    if over > 0:
        place = axes.get_position()
        axes.set_position((place.x0, place.y0, place.width - over / (1 + PAST), place.height))


def spread(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Heights in ascending order, moved as little as possible (least squares) so that they are `gap` apart.

    As far as there is room they lie from `low` to `high`; where there is none, they begin at `low`.
    """
    blocks: list[list[float]] = []  # [sum, count] of heights that have met, after taking out the gaps below each
    for place, height in enumerate(heights):
        blocks.append([height - place * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + count]
    level = [total / count for total, count in blocks for _ in range(int(count))]
    top = high - (len(heights) - 1) * gap
    return [max(min(y, top), low) + place * gap for place, y in enumerate(level)]
