"""The curve of one run as a picture."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kdal_cli.report.direct import End, name_ends
from kdal_cli.report.plots import BLUE, MUTED, ORANGE, around, picture
from kdal_cli.report.text import percent, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def curve_png(
    labels: Sequence[int],
    accuracy: Sequence[float],
    *,
    teacher: float | Sequence[float] | None = None,
    baselines: Mapping[str, Sequence[float]] = MappingProxyType({}),
    title: str = "Accuracy against labels bought",
    subtitle: str = "",
) -> bytes:
    """Test accuracy, in %, against labels bought. One point is enough. 1200 × 750 pixels.

    labels, accuracy: one for each round, accuracy a share from 0 to 1. teacher: its accuracy, a level, or one for each
    round where it is trained anew. baselines: {name: accuracy of a simple model}, thin lines. Ticks are where labels
    were bought; names stand at the ends of lines, with the last value in %.
    """
    with picture(8, 5, title, subtitle, layout="free") as (figure, png):
        axes = figure.add_axes((0.09, 0.115, 0.69, 0.73))
        lines = [Line("student", accuracy, BLUE, "-", 2.0, "o")]
        if isinstance(teacher, Sequence):
            lines.append(Line("teacher", teacher, ORANGE, "--", 1.5, "s"))
        elif teacher is not None:
            lines.append(Line("teacher", [teacher] * len(labels), ORANGE, "--", 1.5, ""))
        dashes = itertools.cycle((":", "-.", (0, (5, 1)), (0, (1, 1))))
        thin = zip(baselines.items(), dashes, strict=False)
        lines += [Line(name, each, MUTED, dash, 1.0, "") for (name, each), dash in thin]
        axes.set_xlim(*around(labels, least=max(1, 0.05 * labels[-1])))
        for line in lines:
            alone = line.marker or ("_" if len(labels) == 1 else "")
            axes.plot(
                labels, [100 * share for share in line.shares], color=line.colour, linestyle=line.dashes,
                linewidth=line.width, marker=alone, markersize=5, zorder=3 if line.colour == BLUE else 2,
            )  # fmt: skip
        low, high = around([100 * share for line in lines for share in line.shares], least=2)
        axes.set_ylim(low, min(high, 100.5))
        axes.set(xlabel="labels bought", ylabel="test accuracy, %")
        bought_ticks(axes, labels, 10)
        axes.grid(linewidth=0.8)
        name_ends(axes, [line.end(labels[-1]) for line in lines], 10)
    return png.getvalue()


@dataclass(frozen=True)
class Line:
    """A line of a run's curve. shares: of each round, from 0 to 1."""

    name: str
    shares: Sequence[float]
    colour: str
    dashes: Any
    width: float
    marker: str

    def end(self, x: float) -> End:
        return End(x, 100 * self.shares[-1], f"{shortened(self.name, 16)} {percent(self.shares[-1])}", self.colour)


def bought_ticks(axes: "Axes", labels: Sequence[float], size: float) -> None:
    """Ticks where labels were bought, and their numbers as far as they do not run into each other."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    low, high = axes.get_xlim()
    points = figure.get_size_inches()[0] * axes.get_position().width * 72 / (high - low)  # for each label
    told: list[float] = []
    for x in labels:
        room = size * (0.6 * len(f"{x:,.0f}") + 0.8)
        if not told or (x - told[-1]) * points > room:
            told.append(x)
    axes.set_xticks(labels, minor=True)
    axes.set_xticks(told, [f"{x:,.0f}" for x in told], fontsize=size)
