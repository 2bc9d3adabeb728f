"""Does a model know how often it is right?

Axis letters: N images, C classes. Everything is computed in float64 on the CPU.
"""

import torch
from torch import Tensor

from kdal_cli.metrics.inputs import checked, top1


def ece(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error, from 0 to 1: the mean gap between how sure a model is and how often it is right.

        ECE = Σ_m  (n_m / N) · |accuracy_m - confidence_m|

    over the `bins` of `reliability`. Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks",
    ICML 2017, equation 3, with their 15 bins.
    """
    confidence, accuracy, count = reliability(logits, labels, bins)
    return float((count * (accuracy - confidence).abs()).sum() / count.sum())


def reliability(logits: Tensor, labels: Tensor, bins: int = 15) -> tuple[Tensor, Tensor, Tensor]:
    """The reliability diagram as numbers: mean confidence, accuracy and number of images in each bin.

    logits (N, C), labels (N,) -> confidence (bins,) float64, accuracy (bins,) float64, count (bins,) int64.

    Confidence is the largest softmax probability. Bin m of M holds the images with confidence in ((m - 1) / M, m / M]:
    equal widths, closed on the right, as in Guo et al. 2017. A bin without images has confidence 0 and accuracy 0.
    """
    if bins < 1:
        raise ValueError(f"a reliability diagram has at least one bin, not {bins}")
    logits, labels = checked(logits, labels)
    confidence = logits.softmax(dim=1).amax(dim=1)  # (N,)
    correct = (top1(logits) == labels).double()  # (N,)

    edges = torch.arange(1, bins, dtype=torch.float64) / bins  # (bins - 1,), the inner ones
    bin_of = torch.bucketize(confidence, edges)  # (N,), edge[m - 1] < confidence <= edge[m]
    count = torch.bincount(bin_of, minlength=bins)  # (bins,)
    held = count.clamp(min=1)  # no image: 0 / 1 = 0
    return (
        torch.bincount(bin_of, confidence, minlength=bins) / held,
        torch.bincount(bin_of, correct, minlength=bins) / held,
        count,
    )
