"""Probabilities that can be believed, and answers that are withheld: found out on images that nobody trained on.

Axis letters: N images, C classes. Everything is computed in float64 on the CPU.
"""

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from kdal_cli.metrics.calibration import ece
from kdal_cli.metrics.inputs import checked, top1
from kdal_cli.types import Calibration

COLDEST, HOTTEST = 0.05, 20.0
"""The temperatures among which one is looked for."""

POINTS = 50
"""Points of a curve at most."""

LEVELS = 100
"""Coverages at most that sets are kept for."""

LEAST = 50
"""Images that a calibration needs at least: of fewer, one more or less that is right moves everything."""


def calibrate(logits: Tensor, labels: Tensor) -> Calibration:
    """Temperature, ECE and the curve of the reject option. logits (N, C), labels (N,), N at least 1.

    The threshold withholds as few answers as bring half of the errors down: the widest coverage whose accuracy is at
    least 1 - (1 - accuracy) / 2. Where no threshold does that, being sure says nothing, and nothing is withheld.
    """
    logits, labels = checked(logits, labels)
    t = temperature(logits, labels)
    curve = reject_curve(logits / t, labels)
    wanted = (1 + curve[0][2]) / 2
    threshold = threshold_for(curve, wanted) if max(right for *_, right in curve) >= wanted else 0.0
    both = ece(logits, labels), ece(logits / t, labels)
    return Calibration(t, len(labels), both, threshold, curve, conformal(logits, labels))


def temperature(logits: Tensor, labels: Tensor) -> float:
    """The T that minimises the negative log likelihood of softmax(z / T). logits (N, C), labels (N,).

        T = argmin  mean_n  -Σ_c t_nc · log softmax(z_n / T)_c    t = (N + 1) / (N + 2) for the label, the rest shared

    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, section 4.2. The targets are
    those of Platt, "Probabilistic Outputs for Support Vector Machines", 1999: where every answer is right, hard ones
    would have T run to 0.
    """
    logits, labels = checked(logits, labels)
    n, classes = logits.shape
    if classes < 2:
        return 1.0
    targets = torch.full_like(logits, 1 / (n + 2) / (classes - 1))  # (N, C)
    targets.scatter_(1, labels[:, None], (n + 1) / (n + 2))

    def loss(log_t: float) -> float:
        return float(-(targets * (logits / math.exp(log_t)).log_softmax(1)).sum(1).mean())

    found = minimize_scalar(loss, bounds=(math.log(COLDEST), math.log(HOTTEST)), method="bounded")
    return math.exp(float(found.x))


def reject_curve(logits: Tensor, labels: Tensor) -> tuple[tuple[float, float, float], ...]:
    """(threshold, coverage, accuracy) from low to high thresholds: what is answered, and how often that is right.

    An image is answered where its largest probability is at least the threshold. The first point answers every image.
    El-Yaniv, Wiener, "On the Foundations of Noise-free Selective Classification", JMLR 2010.
    """
    logits, labels = checked(logits, labels)
    confidence, order = logits.softmax(1).amax(1).sort(descending=True, stable=True)  # (N,)
    right = (top1(logits) == labels)[order].double().cumsum(0)  # (N,), of the n surest
    last = torch.cat([confidence[1:] != confidence[:-1], torch.tensor([True])]).nonzero().flatten()  # ties go together
    answered = last + 1
    rows = torch.stack([confidence[last], answered / len(labels), right[last] / answered], 1)  # (distinct, 3)
    chosen = torch.linspace(0, len(rows) - 1, min(POINTS, len(rows)), dtype=torch.float64).round().long()
    (_, *everything), *rest = rows[chosen.flip(0)].tolist()
    return tuple((low, share, accuracy) for low, share, accuracy in ([0.0, *everything], *rest))


def conformal(logits: Tensor, labels: Tensor) -> tuple[tuple[float, float], ...]:
    """(coverage, least probability) of sets of classes that hold the true one at least so often. logits (N, C).

        {c : softmax(z)_c ≥ q_k}    q_k the k-th largest softmax(z_n)_y of N images    P(y in it) ≥ k / (N + 1)

    for an image drawn as these N were, whatever the network: split conformal prediction with the score 1 - p_y. From
    the middle up to the highest coverage, at which a set of N images says anything, N / (N + 1). At T = 1, as the
    temperature is fitted on the same labels.

    Sadinle, Lei, Wasserman, "Least Ambiguous Set-Valued Classifiers with Bounded Error Levels", JASA 2019,
    arXiv:1609.00451.
    """
    logits, labels = checked(logits, labels)
    n = len(labels)
    theirs = logits.softmax(1).gather(1, labels[:, None]).flatten().sort(descending=True).values  # (N,)
    ranks = torch.linspace(-(-n // 2), n, min(LEVELS, n), dtype=torch.float64).round().long().unique()
    return tuple((k / (n + 1), float(theirs[k - 1])) for k in ranks.tolist())


def threshold_for(curve: tuple[tuple[float, float, float], ...], accuracy: float) -> float:
    """The lowest threshold of a curve whose answers are right at least so often; its highest where none are."""
    return next((low for low, _, right in curve if right >= accuracy), curve[-1][0])


def spoken(calibration: Calibration) -> str:
    """A calibration in words."""
    before, after = calibration.ece
    share, right = next((share, right) for low, share, right in calibration.curve if low >= calibration.threshold)
    told = f"temperature {calibration.temperature:.2f}, ECE {before:.3f} before and {after:.3f} after"
    rest = ", the others are unsure" if share < 1 else ""
    answered = f"answers {share:.0%} of the images at {right:.1%} accuracy{rest}"
    return f"{told}; {answered} (of {calibration.images:,} validation images)"
