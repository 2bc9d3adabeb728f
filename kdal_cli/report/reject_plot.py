"""The reject option as a picture: how often a network is right when it may say that it is not sure."""

from kdal_cli.report.plots import BLUE, MUTED, ORANGE, around, picture
from kdal_cli.types import Calibration


def reject_png(calibration: Calibration, *, title: str = "Accuracy of what is answered") -> bytes:
    """Accuracy against the share of images that are answered, and the threshold that was chosen. 960 × 690 pixels."""
    shares = [100 * share for _, share, _ in calibration.curve]
    rights = [100 * right for _, _, right in calibration.curve]
    place = next(i for i, (low, _, _) in enumerate(calibration.curve) if low >= calibration.threshold)
    subtitle = f"{calibration.images:,} validation images; below {calibration.threshold:.3f} an answer is unsure"
    with picture(6.4, 4.6, title, subtitle) as (figure, png):
        axes = figure.add_subplot()
        axes.step(shares, rights, color=BLUE, where="post")
        axes.plot(shares[place], rights[place], "o", color=ORANGE)
        label = f"{rights[place]:.1f} % of {shares[place]:.0f} %"
        axes.annotate(label, (shares[place], rights[place]), (-6, -14), textcoords="offset points", ha="right")
        axes.axhline(rights[0], color=MUTED, linestyle="--", linewidth=1)
        axes.set(xlabel="images answered, %", ylabel="accuracy of the answers, %", ylim=around(rights, least=0.5))
        axes.grid(linewidth=0.8)
    return png.getvalue()
