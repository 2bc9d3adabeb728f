"""Ask where a little of the features of a labelled class changes the prediction, and for different such images."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence, Space
from kdal_cli.inference.ranking import shuffled
from kdal_cli.samplers.dropquery import one_of_each_cluster
from kdal_cli.types import Query
from kdal_cli.values import Positive

CHUNK = 4096
"""Images that are mixed at a time."""


def last_layer(classify: Callable[[Tensor], Tensor], like: Tensor) -> tuple[Tensor, Tensor]:
    """Its weight (C, D) and bias (C,) in float64: what it answers to each unit vector and to zero. like: (N, D)."""
    unit = torch.eye(like.shape[1], device=like.device)  # (D, D)
    bias = classify(torch.zeros_like(unit[:1])).double()  # (1, C)
    return (classify(unit).double() - bias).T, bias[0]


def anchors(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The mean features of each class that has a label, (M, D), (M,) -> (A, D) in float64; none where M is 0.

    Where one of the classes has none, the mean of all features comes last.
    """
    seen, which = labels.to(features.device).unique(return_inverse=True)  # (A,), (M,)
    sums = features.new_zeros(len(seen), features.shape[1], dtype=torch.float64).index_add_(0, which, features.double())
    means = sums / which.bincount(minlength=len(seen))[:, None]
    return torch.cat([means, features.double().mean(0, keepdim=True)]) if 0 < len(seen) < classes else means


def ascent(logits: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """∇_z ℓ(z, ŷ) ÷ its norm, (n, C), labels (n, 1), (C, D) -> (n, D); zeros where the gradient is.

    ∇_z ℓ = (1 − p_ŷ) Wᵀ(q − e_ŷ) with q the softmax of the other classes alone, of which the direction never saturates.
    """
    others = logits.scatter(1, label, -torch.inf).softmax(1)  # (n, C)
    return F.normalize(others.scatter(1, label, -1.0) @ weight, eps=1e-300)


def flipping_epsilon(features: Tensor, weight: Tensor, bias: Tensor, centres: Tensor) -> Tensor:
    """The least ε with which a mixture with any of the anchors (A, D) loses the label ŷ, (n, D) -> (n,); or infinity.

    Logits are linear in ε: class c overtakes ŷ when it has gained as much as ŷ is ahead.
    """
    logits = F.linear(features, weight, bias)  # (n, C)
    label = logits.argmax(1, keepdim=True)  # (n, 1)
    direction, ahead = ascent(logits, label, weight), logits.gather(1, label) - logits  # (n, D), (n, C)
    least = features.new_full((len(features),), torch.inf)
    for anchor in centres:
        apart = anchor - features  # (n, D)
        slope = torch.where(apart == 0, 0, direction) @ weight.T  # (n, C)
        gain = slope - slope.gather(1, label)
        reach = torch.where(gain > 0, ahead / gain, torch.inf).amin(1)  # (n,)
        least = torch.minimum(least, reach / apart.norm(dim=1))
    return math.sqrt(features.shape[1]) * least


def alfa_mix(pool: Evidence, k: int, rng: Generator, *, epsilon: Positive = 0.2, space: Space = "features") -> Query:
    """One image of each of k clusters of those whose predicted label flips when its features z mix with an anchor's.

    An anchor a is the mean of the features of a class, or of all labelled images where it has no labels, as in the
    authors' code. The mixture is (1 − α) z + α a, α one number a feature, in closed form ε ‖a − z‖ g ⊘ (a − z) / (√D
    ‖g‖) with g = ∇_z ℓ(z, ŷ): Parvaneh et al. 2022, arXiv:2203.07034. So z moves by ε ‖a − z‖ g / (√D ‖g‖) in the
    features in which a differs from it, and nothing is divided by a − z. `epsilon` is added to ε until more than k
    labels flip, or ε is 1, as in the authors' code. Clusters are made by k-means of directions in `space`; the image
    nearest to a centre stands for it. Where fewer than k candidates differ, those that flip at the next larger ε
    follow, not random ones as in the authors' code. score: −ε at which the label flips. With no labels there is no
    anchor, and the query is random.

    Time N·A·C·D for A anchors, and k-means of n candidates, n·k·D an iteration; memory N·D.

    Helps with few labels, for which the paper shows the largest gains, and on features of self-supervised training.
    Hurts where distance tells little: all anchors push the same way, along g, and of two images equally near to losing
    their label the one farther from the labelled classes flips first, outliers included.
    """
    order = shuffled(pool.ids, rng)  # (N,)
    features = pool.features
    weight, bias = last_layer(pool.classify, features)
    centres = anchors(pool.labelled_features, pool.labels, pool.classes)
    parts = order.to(features.device).split(CHUNK)
    needed = torch.cat([flipping_epsilon(features[rows].double(), weight, bias, centres) for rows in parts]).cpu()
    level = epsilon
    while level < 1 and int((needed < level).sum()) <= k:
        level += epsilon
    points = pool.in_space(space)[0]
    rows = one_of_each_cluster(points[order.to(points.device)], -needed, needed < level, k, rng)
    return Query(order[rows], -needed[rows])
