"""A study as pictures, PNG or SVG from the same drawing: curves with their intervals, ranks over data sets.

What is told apart by colour is told apart by its marker or its dashes as well.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdal_cli.report.curve_plot import bought_ticks
from kdal_cli.report.direct import End, name_ends
from kdal_cli.report.plots import BLUE, INK, MARKERS, MUTED, ORANGE, PALETTE, Form, picture
from kdal_cli.report.standings import Standing, drawn_out, standings
from kdal_cli.report.study_text import CURRENCIES, Figure
from kdal_cli.report.text import shortened
from kdal_cli.study.statistics import ENOUGH_SEEDS
from kdal_cli.study.study import Block, Entry, Ranking, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

WIDTH, HEAD = 10.5, 0.35
"""Inches: a picture, and what is left free above a panel that has a title."""

FEW_BANDS, FEW_POINTS = 3, 12
"""Of more curves bands would be one; their intervals are bars beside each other, where a curve has few points."""

MANY_TICKS = 40
"""Of more places where labels were bought the axis has round numbers."""


@dataclass(frozen=True)
class Sheet:
    """What curves are drawn on. width: inches. size: points of the letters. titled: whether the picture has a headline,
    and its means their intervals in figures; in print the caption has both."""

    width: float = WIDTH
    size: float = 9.0
    titled: bool = True

    @property
    def panel(self) -> float:
        """Inches of height, the more of the width the narrower it is."""
        return self.width * (0.42 if self.width > 7 else 0.62)

    @property
    def right(self) -> float:
        """Inches to the right of the axes, for names."""
        return self.width * (0.27 if self.width > 7 else 0.32)

    @property
    def left(self) -> float:
        return 0.085 * self.size

    @property
    def foot(self) -> float:
        return 0.06 * self.size

    @property
    def line(self) -> float:
        return 0.2 * self.size

    @property
    def letters(self) -> int:
        """As many of a usual width as fit to the right of the axes."""
        return int((self.right - 0.15) * 72 / (0.56 * self.size))


PAGE = Sheet()


def in_print(width: float) -> Sheet:
    """A sheet for a column of a paper: letters of 7 to 9 points at the size that is printed."""
    return Sheet(width, min(9.0, max(7.0, 2 * width)), titled=False)


AXES = {"labels": "labels bought", "flops": "floating-point operations", "seconds": "seconds"}
"""Currencies whose axis is named in more words than in a table."""


def curves(study: Study, blocks: Sequence[Block], form: Form = "png", sheet: Sheet = PAGE) -> bytes:
    """The curves of each block in a panel of its own: means over seeds, named at their ends.

    From five seeds on 95 % t intervals are bands, or bars where there are more than three curves; of fewer seeds each
    is a thin line, as a band would fill the panel.
    Unfinished runs are thin and dashed, baselines dashed and dotted. Of more than nine cells the best six and their
    baselines are told apart, the others are grey. Ticks are where labels were bought. Cells without rounds are points
    with their intervals.
    """
    figure = Figure(study.figure)
    ranked = [standings(study, block) for block in blocks]
    high = [sheet.panel if _stepped(block) else 1.3 + 0.3 * len(block.entries) for block in blocks]
    against = f" against {AXES.get(study.x, CURRENCIES[study.x])}" if any(map(_stepped, blocks)) else ""
    title = f"{figure.name[0].upper()}{figure.name[1:]}{against}" if sheet.titled else ""
    subtitle, head = (_seeds(blocks), 0.55) if sheet.titled else ("", 0.0)
    with picture(sheet.width, sum(high) + head, title, subtitle, layout="free", form=form) as (canvas, file):
        below = sum(high)
        for block, members, height in zip(blocks, ranked, high, strict=True):
            below -= height
            axes = _panel(canvas, below, height, block.name, sheet)
            (_curves if _stepped(block) else _points)(axes, study, block, members, sheet)
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


def _panel(canvas: "Canvas", below: float, height: float, title: str, sheet: Sheet) -> "Axes":
    """Axes `below` inches above the lower edge."""
    whole = float(canvas.get_size_inches()[1])
    left, foot, head = sheet.left, sheet.foot, HEAD if title else 0.2
    share = 1 - (left + sheet.right) / sheet.width
    axes = canvas.add_axes((left / sheet.width, (below + foot) / whole, share, (height - foot - head) / whole))
    if title:
        axes.set_title(shortened(title, int(8 * sheet.width)), loc="left", fontsize=sheet.size + 1, color=INK)
    axes.tick_params(labelsize=sheet.size)
    axes.grid(linewidth=0.6)
    return axes


def _curves(axes: "Axes", study: Study, block: Block, ranked: Sequence[Standing], sheet: Sheet) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator, StrMethodFormatter

    figure, shown = Figure(study.figure), drawn_out(ranked)
    scale = 100 if figure.share else 1
    others = [standing.entry for standing in ranked if standing not in shown]
    for entry in others:
        axes.plot(*_mean(entry, scale), color=MUTED, alpha=0.4, linewidth=0.8)
    bars = len(shown) > FEW_BANDS
    curves = reversed(list(enumerate(shown)))
    ends = [_curve(axes, study, standing, place, scale, sheet, bars=bars) for place, standing in curves]
    right = max(end.x for end in ends)
    if others:
        ends.append(End(right, _mean(others[0], scale)[1][-1], f"{len(others)} others", MUTED))
    low, high = axes.set_ylim(_limits(block, figure.share))
    if block.target is not None and low < scale * block.target < high:
        axes.axhline(scale * block.target, color=INK, linewidth=0.9, linestyle=(0, (1, 3)))
        ends.append(End(right, scale * block.target, f"target {figure.value(block.target)}", INK))
    axes.set_xlabel(AXES.get(study.x, CURRENCIES[study.x]), fontsize=sheet.size)
    axes.set_ylabel(figure.headed, fontsize=sheet.size)
    places = sorted({x for entry in block.entries for run in entry.cell.runs.values() for x in run.values(study.x)})
    if study.x == "labels" and len(places) <= MANY_TICKS:
        bought_ticks(axes, places, sheet.size)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(int(sheet.width / 1.5), integer=study.x == "labels"))
        axes.xaxis.set_major_formatter(EngFormatter(sep="") if study.x == "flops" else StrMethodFormatter("{x:,.0f}"))
    name_ends(axes, ends, sheet.size)


def _curve(
    axes: "Axes", study: Study, standing: Standing, place: int, scale: float, sheet: Sheet, *, bars: bool
) -> End:
    """The mean of a cell with its band, its bars or its seeds, and its unfinished runs; the end of the mean."""
    entry, colour = standing.entry, PALETTE[place % len(PALETTE)]
    x, mean = _mean(entry, scale)
    finished = all(run.done for run in entry.cell.runs.values())
    dashes = ("-." if standing.is_baseline else "-") if finished else "--"
    axes.plot(
        x, mean, label=entry.name, color=colour, linestyle=dashes, linewidth=sheet.line if finished else 1, zorder=3,
        marker=MARKERS[place % len(MARKERS)], markersize=0.45 * sheet.size, markevery=max(1, len(x) // 10),
    )  # fmt: skip
    if entry.last.n >= ENOUGH_SEEDS:
        low, high = (
            [scale * end for end in ends] for ends in zip(*((i.low, i.high) for _, i in entry.curve), strict=True)
        )
        if bars and len(x) <= FEW_POINTS:
            beside = [at + (place - 2.5) * 0.006 * (x[-1] - x[0]) for at in x]
            axes.vlines(beside, low, high, color=colour, linewidth=1.2, alpha=0.7)
        else:
            axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    seeds = entry.cell.runs.values() if 1 < entry.last.n < ENOUGH_SEEDS else ()
    for run in (*seeds, *(entry.cell.unfinished if finished else ())):
        y, dash = [scale * value for value in run.values(study.figure)], "-" if run.done else "--"
        axes.plot(run.values(study.x), y, color=colour, linestyle=dash, linewidth=0.6, alpha=0.6)
    figure = Figure(study.figure)
    told = figure.mean(entry.last) if sheet.titled else figure.value(entry.last.mean)
    return End(x[-1], mean[-1], f"{shortened(entry.name, sheet.letters - len(told))} {told}", colour)


def _points(axes: "Axes", study: Study, block: Block, ranked: Sequence[Standing], sheet: Sheet) -> None:
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
    names = [shortened(one.entry.name, sheet.letters) + " (baseline)" * one.is_baseline for one in ranked]
    axes.set(xlabel=figure.headed, ylim=(len(ranked) - 0.5, -0.5))
    axes.set_yticks(range(len(ranked)), names)
    axes.yaxis.tick_right()
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _mean(entry: Entry, scale: float) -> tuple[list[float], list[float]]:
    return [x for x, _ in entry.curve], [scale * found.mean for _, found in entry.curve]


def _limits(block: Block, share: bool) -> tuple[float, float]:
    """All means with a margin, and of the intervals as much as leaves the means half of the height; % from 0 to 100.

    Where all curves are at the same place, as before the first query, the interval tells nothing about them.
    """
    scale = 100 if share else 1
    found = [(x, interval) for entry in block.entries for x, interval in entry.curve]
    means = [scale * interval.mean for _, interval in found]
    apart = {x for x, interval in found for at, other in found if at == x and other.mean != interval.mean}
    told = [interval for x, interval in found if x in apart or len(block.entries) == 1]
    ends = [scale * end for interval in told for end in (interval.low, interval.high) if math.isfinite(end)]
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
    return f"mean of {many} seeds" + (", 95 % interval" if seeds[-1] >= ENOUGH_SEEDS else ", each a thin line")
