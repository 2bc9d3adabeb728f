"""Results as pictures: each function returns the bytes of a file, the same bytes for the same numbers.

matplotlib is imported when the first picture is drawn. No pyplot, so no global figures and no backend to choose; the
user's matplotlibrc does not count, and `$` in a class name is a dollar.
"""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from kdal_cli.report.text import percent, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

Form = Literal["png", "svg", "pdf"]
Layout = Literal["constrained", "compressed", "free"]

DPI = 150
INK, MUTED, FAINT = "#1f2933", "#616e7c", "#d9dee4"
BLUE, ORANGE = "#1d5fa8", "#c2570c"  # told apart by the colour-blind; lines differ in dashes as well

PALETTE = ("#0b4f9e", "#e07b00", "#0d6e4f", "#3fa7d6", "#a3201a", "#7c8794", "#6a1b9a", "#c79a00", "#7a2e5d")
"""Neighbours differ in lightness, so that they can be told apart in grey as well, and to the colour-blind."""

MARKERS = "os^Dv*PXp"

NUMBERED = 30
"""Above so many classes a confusion matrix is shown by its shades alone."""

NAMED = 120
"""Above so many classes only some of them are named at the axes."""

UNDATED: Mapping[Form, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""What a file does not tell of when and by what it was made, so that equal drawings are equal bytes."""

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters everywhere
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": FAINT,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.9,
    "svg.fonttype": "path",  # letters as outlines: legible where the font is not installed
    "pdf.fonttype": 42,  # letters as text, which printers ask for
    "svg.hashsalt": "kdal",  # names within the file are the same each time
    "figure.constrained_layout.w_pad": 0.12,  # inches
    "figure.constrained_layout.h_pad": 0.12,
}


def confusion_png(
    confusion: "Tensor", classes: Sequence[str], *, title: str = "Confusion", subtitle: str = ""
) -> bytes:
    """A confusion matrix (C, C), truth in rows: the shade is the share of the row, the number the images.

    Up to 30 classes have numbers (0 is left blank) and more than 120 are not all named. The shade grows with the square
    root of the share, so that a confusion of 1 % can be seen.
    """
    from matplotlib.colors import PowerNorm

    if confusion.shape != (len(classes), len(classes)):
        raise ValueError(f"a confusion matrix of {tuple(confusion.shape)} for {len(classes)} class names")
    shares = (confusion.double() / confusion.sum(dim=1, keepdim=True).clamp(min=1)).numpy()  # (C, C)
    side = 3.2 + 0.44 * len(classes) if len(classes) <= NUMBERED else 15
    with picture(max(6.5, side + 0.7), max(5.8, side), title, subtitle, layout="compressed") as (figure, png):
        axes = figure.add_subplot()
        image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
        if len(classes) <= NUMBERED:
            _number_cells(axes, confusion.tolist(), shares.tolist())
        _name_cells(axes, classes)
        axes.set_xlabel("answer")
        axes.set_ylabel("truth")
        axes.spines[:].set_visible(True)
        bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=30, ticks=[0, 0.01, 0.05, 0.1, 0.25, 0.5, 1])
        bar.set_label("share of the true class, %")
        bar.ax.set_yticklabels(["0", "1", "5", "10", "25", "50", "100"])
        bar.ax.spines["outline"].set_visible(False)
    return png.getvalue()


def reliability_png(
    confidence: "Tensor", accuracy: "Tensor", count: "Tensor", *, title: str = "Reliability", subtitle: str = ""
) -> bytes:
    """A reliability diagram from `kdal_cli.metrics.calibration.reliability`, each (bins,). 960 × 1110 pixels.

    Above: how often the answers of a bin are right, against how sure the model is of them, and the gap between the two.
    Below: the share of the images in each bin.
    """
    bins, images = len(count), max(1, int(count.sum()))
    held = [bin for bin, inside in enumerate(count.tolist()) if inside]
    middles = [(bin + 0.5) / bins for bin in range(bins)]
    ece = float((count * (accuracy - confidence).abs()).sum()) / images
    with picture(6.4, 7.4, title, subtitle) as (figure, png):
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        at, width = [middles[bin] for bin in held], 1 / bins
        right, sure = [float(accuracy[bin]) for bin in held], [float(confidence[bin]) for bin in held]
        upper.bar(at, right, width, color="#8fb8de", edgecolor="white", label="accuracy")
        gaps = [b - a for a, b in zip(right, sure, strict=True)]
        label = f"gap to the confidence, ECE {percent(ece)} %"
        upper.bar(at, gaps, width, bottom=right, facecolor="none", edgecolor=ORANGE, hatch="////", label=label)
        upper.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1.2, label="perfectly calibrated")
        upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
        upper.legend(loc="upper left")
        lower.bar(middles, [100 * inside / images for inside in count.tolist()], width, color=MUTED, edgecolor="white")
        lower.set(xlabel="confidence", ylabel="images, %")
        for axes in (upper, lower):
            axes.grid(linewidth=0.8)
    return png.getvalue()


@contextmanager
def picture(
    width: float, height: float, title: str, subtitle: str, *, layout: Layout = "constrained", form: Form = "png"
) -> "Iterator[tuple[Figure, io.BytesIO]]":
    """A figure of so many inches, with its headline, to draw on; then its file, without dates or versions.

    layout: "compressed" keeps square axes together, rather than each in the middle of its share of the figure; with
    "free" the axes are where they are put.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    file = io.BytesIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a box is drawn in its place
        head = 0.62 if subtitle else 0.42 if title else 0.0
        below_head = (0, 0, 1, 1 - head / height)  # left, bottom, width, height
        engine = ConstrainedLayoutEngine(rect=below_head, compress=layout == "compressed")
        figure = Figure(figsize=(width, height), dpi=DPI, layout=None if layout == "free" else engine)
        _head(figure, title, subtitle)
        yield figure, file
        figure.savefig(file, format=form, metadata=UNDATED[form])


def _head(figure: "Figure", title: str, subtitle: str) -> None:
    """Title above subtitle at the top left, as much of them as fits the width."""
    width, height = figure.get_size_inches()
    left, top, below = 0.15 / width, 1 - 0.15 / height, 1 - 0.43 / height
    figure.text(left, top, shortened(title, int(8 * width - 3)), va="top", fontweight="bold", fontsize=13)
    figure.text(left, below, shortened(subtitle, int(13 * width - 4)), va="top", fontsize=9, color=MUTED)


def around(values: Sequence[float], *, least: float) -> tuple[float, float]:
    """The range of `values` and a margin of 6 %, or `least` where that is more."""
    margin = max(least, 0.06 * (max(values) - min(values)))
    return min(values) - margin, max(values) + margin


def _number_cells(axes: "Axes", counts: list[list[int]], shares: list[list[float]]) -> None:
    longest = max(len(str(count)) for row in counts for count in row)
    for truth, row in enumerate(counts):
        for answer, count in enumerate(row):
            if count:
                ink = "white" if shares[truth][answer] > 0.3 else INK
                axes.text(answer, truth, str(count), ha="center", va="center", color=ink, fontsize=min(9, 36 / longest))


def _name_cells(axes: "Axes", classes: Sequence[str]) -> None:
    """Class names at both axes, or those of every n-th class."""
    size = 9 if len(classes) <= NUMBERED else 6
    shown = range(0, len(classes), -(-len(classes) // NAMED))
    names = [shortened(classes[i], 24) for i in shown]
    axes.set_xticks(shown, names, rotation=90, fontsize=size)
    axes.set_yticks(shown, names, fontsize=size)
    axes.tick_params(length=0)
