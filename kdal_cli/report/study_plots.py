"""A study as pictures, PNG or SVG from the same drawing: curves with their intervals, ranks over data sets.

What is told apart by colour is told apart by its marker or its dashes as well.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdal_cli.report.plots import BLUE, INK, MARKERS, MUTED, ORANGE, PALETTE, Form, picture
from kdal_cli.report.standings import Standing, drawn_out, standings
from kdal_cli.report.study_text import CURRENCIES, Figure
from kdal_cli.report.text import shortened
from kdal_cli.study.study import Block, Entry, Ranking, Study

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

WIDTH, PANEL = 10.5, 4.6
LEFT, RIGHT, HEAD, FOOT = 0.8, 3.6, 0.35, 0.65
"""Inches: a picture and a panel of it, and what is left free around the axes, to the right for the legend."""

AXES = {"labels": "labels bought", "flops": "floating-point operations", "seconds": "seconds"}
"""Currencies whose axis is named in more words than in a table."""


def curves(study: Study, blocks: Sequence[Block], form: Form = "png") -> bytes:
    """The curves of each block in a panel of its own: means over seeds, 95 % t intervals as bands. 10.5 inches wide.

    Unfinished runs are thin and dashed, baselines dashed and dotted. Of more than nine cells the best six and their
    baselines are told apart, the others are grey. Cells without rounds are points with their intervals. Bands wider
    than the panel are cut off, so that two seeds do not hide the means.
    """
    figure = Figure(study.figure)
    ranked = [standings(study, block) for block in blocks]
    high = [PANEL if _stepped(block) else 1.3 + 0.3 * len(block.entries) for block in blocks]
    against = f" against {AXES.get(study.x, CURRENCIES[study.x])}" if any(map(_stepped, blocks)) else ""
    title = f"{figure.name[0].upper()}{figure.name[1:]}{against}"
    with picture(WIDTH, sum(high) + 0.55, title, _seeds(blocks), layout="free", form=form) as (canvas, file):
        below = sum(high)
        for block, members, height in zip(blocks, ranked, high, strict=True):
            below -= height
            axes = _panel(canvas, below, height, block.name)
            (_curves if _stepped(block) else _points)(axes, study, block, members)
    return file.getvalue()


def critical_difference(ranking: Ranking, form: Form = "png") -> bytes:
    """Demšar's diagram: average ranks on an axis, 1 the best; a bar joins methods that are not told apart."""
    methods, bars = len(ranking.methods), len(ranking.cliques)
    order = sorted(range(methods), key=lambda method: ranking.ranks[method])
    first = 0.55 + 0.18 * bars  # inches from the axis down to the first name
    sides = -(-methods // 2)
    height = 1.75 + first + 0.26 * sides
    subtitle = f"{ranking.data_sets} data sets; ranks further apart than {ranking.critical:.2f} are told apart"
    with picture(WIDTH, height, "Average ranks", subtitle, layout="free", form=form) as (canvas, file):
        axes = canvas.add_axes((0.28, 0, 0.44, (height - 1.5) / height))
        axes.set(xlim=(1, max(methods, 2)), ylim=(1.5 - height, 0))
        axes.set_axis_off()
        _scale(axes, methods, ranking.critical)
        for place, clique in enumerate(ranking.cliques):
            ends = [ranking.ranks[method] for method in clique]
            y = -0.25 - 0.18 * place
            axes.plot([min(ends) - 0.03, max(ends) + 0.03], [y, y], color=ORANGE, linewidth=4, clip_on=False)
        for place, method in enumerate(order):
            best = place < sides
            y = -first - 0.26 * (place if best else methods - 1 - place)
            edge, rank = (1.0 if best else float(max(methods, 2))), ranking.ranks[method]
            axes.plot([rank, rank, edge], [0, y, y], color=MUTED, linewidth=1, clip_on=False)
            name = shortened(ranking.methods[method], 30)
            text = f"{name}  {rank:.2f} " if best else f" {rank:.2f}  {name}"
            axes.text(edge, y, text, ha="right" if best else "left", va="center", fontsize=9)
    return file.getvalue()


def _scale(axes: "Axes", methods: int, critical: float) -> None:
    """The axis of ranks, and above it how long the critical difference is."""
    last = max(methods, 2)
    axes.plot([1, last], [0, 0], color=INK, linewidth=1.5, clip_on=False)
    for rank in range(1, last + 1):
        axes.plot([rank, rank], [0, 0.08], color=INK, linewidth=1.5, clip_on=False)
        axes.text(rank, 0.13, str(rank), ha="center", va="bottom", fontsize=9)
    end = min(1 + critical, float(last))
    axes.plot([1, end], [0.5, 0.5], color=INK, linewidth=1.5, marker="|", clip_on=False)
    axes.text((1 + end) / 2, 0.56, f"critical difference {critical:.2f}", ha="center", va="bottom", fontsize=9)


def _panel(canvas: "Canvas", below: float, height: float, title: str) -> "Axes":
    """Axes `below` inches above the lower edge."""
    whole = float(canvas.get_size_inches()[1])
    head = HEAD if title else 0.2
    inside = (LEFT / WIDTH, (below + FOOT) / whole, 1 - (LEFT + RIGHT) / WIDTH, (height - FOOT - head) / whole)
    axes = canvas.add_axes(inside)
    if title:
        axes.set_title(shortened(title, 80), loc="left", fontsize=10.5, color=INK)
    axes.grid(linewidth=0.8)
    return axes


def _curves(axes: "Axes", study: Study, block: Block, ranked: Sequence[Standing]) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator, StrMethodFormatter

    figure, shown = Figure(study.figure), drawn_out(ranked)
    scale = 100 if figure.share else 1
    others = [standing.entry for standing in ranked if standing not in shown]
    for place, entry in enumerate(others):
        label = f"{len(others)} others" if place == 0 else None
        axes.plot(*_mean(entry, scale), color=MUTED, alpha=0.4, linewidth=0.8, label=label)
    for place, standing in reversed(list(enumerate(shown))):  # the best on top
        _curve(axes, study, standing, place, scale)
    if block.target is not None:
        label = f"target {figure.value(block.target)}"
        axes.axhline(scale * block.target, color=INK, linewidth=0.9, linestyle=(0, (1, 3)), label=label)
    axes.set(xlabel=AXES.get(study.x, CURRENCIES[study.x]), ylabel=figure.headed, ylim=_limits(block, figure.share))
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=study.x == "labels"))
    axes.xaxis.set_major_formatter(EngFormatter(sep="") if study.x == "flops" else StrMethodFormatter("{x:,.0f}"))
    handles, names = axes.get_legend_handles_labels()
    grey = 1 if others else 0
    ends = [*range(grey + len(shown) - 1, grey - 1, -1), *range(grey), *range(grey + len(shown), len(names))]
    unit = f", {figure.unit}" if figure.unit else ""
    _legend(axes, [handles[i] for i in ends], [names[i] for i in ends], f"at the end{unit}")


def _curve(axes: "Axes", study: Study, standing: Standing, place: int, scale: float) -> None:
    """The mean of a cell with its band, and its unfinished runs."""
    entry, colour = standing.entry, PALETTE[place % len(PALETTE)]
    x, mean = _mean(entry, scale)
    finished = all(run.done for run in entry.cell.runs.values())
    dashes = ("-." if standing.is_baseline else "-") if finished else "--"
    axes.plot(
        x, mean, color=colour, linestyle=dashes, linewidth=1.8 if finished else 1, markersize=5, zorder=3,
        marker=MARKERS[place % len(MARKERS)], markevery=max(1, len(x) // 10),
        label=f"{shortened(entry.name, 27)}  {Figure(study.figure).mean(entry.last)}",
    )  # fmt: skip
    if entry.last.n > 1:
        low, high = (
            [scale * end for end in ends] for ends in zip(*((i.low, i.high) for _, i in entry.curve), strict=True)
        )
        axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    for run in entry.cell.unfinished if finished else ():
        y = [scale * value for value in run.values(study.figure)]
        axes.plot(run.values(study.x), y, color=colour, linestyle="--", linewidth=0.9)


def _points(axes: "Axes", study: Study, block: Block, ranked: Sequence[Standing]) -> None:
    """A line for each cell: its seeds as rings, its mean with the interval."""
    figure = Figure(study.figure)
    scale = 100 if figure.share else 1
    for place, standing in enumerate(ranked):
        entry, colour = standing.entry, ORANGE if standing.is_baseline else BLUE
        seeds = [scale * run.values(study.figure)[-1] for run in entry.cell.runs.values()]
        axes.plot(seeds, [place] * len(seeds), linestyle="", marker="o", markerfacecolor="none", color=MUTED)
        reach = scale * (entry.last.high - entry.last.mean)
        axes.errorbar(
            scale * entry.last.mean, place, xerr=None if math.isnan(reach) else reach, color=colour, capsize=4,
            marker="D" if standing.is_baseline else "o",
        )  # fmt: skip
    names = [shortened(standing.entry.name, 40) + " (baseline)" * standing.is_baseline for standing in ranked]
    axes.set(xlabel=figure.headed, ylim=(len(ranked) - 0.5, -0.5))
    axes.set_yticks(range(len(ranked)), names)
    axes.yaxis.tick_right()
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _legend(axes: "Axes", handles: "Sequence[Artist]", names: Sequence[str], title: str) -> None:
    legend = axes.legend(
        handles, names, loc="upper left", bbox_to_anchor=(1.01, 1.03), fontsize=8.5, title=title, title_fontsize=8.5,
        alignment="left", labelspacing=0.7, handlelength=2.6, frameon=False,
    )  # fmt: skip
    legend.get_title().set_color(MUTED)


def _mean(entry: Entry, scale: float) -> tuple[list[float], list[float]]:
    return [x for x, _ in entry.curve], [scale * found.mean for _, found in entry.curve]


def _limits(block: Block, share: bool) -> tuple[float, float]:
    """All means with a margin, and of the intervals as much as leaves the means half of the height; % from 0 to 100."""
    scale = 100 if share else 1
    found = [interval for entry in block.entries for _, interval in entry.curve]
    means = [scale * interval.mean for interval in found]
    ends = [scale * end for interval in found for end in (interval.low, interval.high) if math.isfinite(end)]
    low, high = min(means), max(means)
    room = (high - low) / 2 or abs(high) / 10 or 1.0
    low, high = max(min([low, *ends]), low - room), min(max([high, *ends]), high + room)
    if share:
        low, high = max(low, 0.0), min(high, 100.0)
    return low - 0.08 * room, high + 0.08 * room


def _stepped(block: Block) -> bool:
    """Whether there are curves to draw."""
    return any(len(entry.curve) > 1 for entry in block.entries)


def _seeds(blocks: Sequence[Block]) -> str:
    seeds = sorted({entry.last.n for block in blocks for entry in block.entries})
    if seeds == [1]:
        return "one seed: no interval"
    many = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return f"mean of {many} seeds, 95 % interval"
