"""Each image's neighbours in the batch, as a distribution: the nearer in angle, the more probable."""

from torch import Tensor

from kdal_cli.metrics.directions import unit
from kdal_cli.types import Batch, Output

EPS = 1e-7
"""The authors' code adds it to both probabilities inside the logarithm."""


def neighbours(features: Tensor) -> Tensor:
    """(1 + cos)/2 of every two images, over the sum of its row, (B, D) -> (B, B). The image itself counts too."""
    directions = unit(features)  # (B, D)
    near = (1 + directions @ directions.T).clamp(min=0) / 2  # (B, B); a cosine is below −1 by rounding only
    return near / near.sum(1, keepdim=True)


def pkt_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Mean over all B² pairs of p_t log((p_t + ε) / (p_s + ε)), ε = 1e-7, (B, D_s) and (B, D_t) -> ().

    Passalis and Tefas 2018, arXiv:1803.10837, with the mean and the ε of the authors' code: it is KL(p_t ‖ p_s) of an
    image over B, but for ε, which lets it fall below zero by less than ε. Unchanged when either side is rotated or
    when any image's features are scaled, for which the ε that the authors' code adds to their length is left out;
    features that are all zero are at a right angle to everything, without a gradient, where the code's is not a number.
    """
    ours, theirs = neighbours(student_features), neighbours(teacher_features)
    return (theirs * ((theirs + EPS).log() - (ours + EPS).log())).mean()


def pkt(student: Output, teacher: Output, batch: Batch) -> Tensor:
    """Probabilistic knowledge transfer, of penultimate features -> (). Relational. See `pkt_loss`."""
    return pkt_loss(student.features, teacher.features)
