"""Ask for the images that together leave the last layer least uncertain where the pool needs it."""

import torch
from torch import Generator

from kdal_cli.errors import UserError
from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import shuffled
from kdal_cli.samplers._fisher import Design, Fisher, curvature, information
from kdal_cli.types import Query
from kdal_cli.values import Count, Positive

MOST = 2**29
"""Numbers held at once, of 8 bytes each."""

ROUNDING = 1e-9
"""Gains that differ by less than this share are equal."""


def greedy(design: Design, count: int, sign: int) -> tuple[list[int], list[float]]:
    """So many images added, or with sign −1 taken away, each the one of the largest gain, of equal ones the first."""
    rows: list[int] = []
    gains: list[float] = []
    while len(rows) < count:
        gain = design.gain(sign)
        gain[rows] = -torch.inf
        highest = float(gain.max())
        rows.append(int((gain >= highest - ROUNDING * abs(highest)).nonzero()[0]))
        gains.append(float(gain[rows[-1]]))
        design.change(rows[-1], sign)
    return rows, gains


def bait(
    pool: Evidence,
    k: int,
    rng: Generator,
    *,
    fisher: Fisher = "full",
    ridge: Positive = 0.01,
    oversample: Count = 2,
) -> Query:
    """The k images for which tr(J⁻¹F̄) is small, J the Fisher information of what is labelled and F̄ of what is wanted.

    Of the last layer: F(x) = (diag(p) − p pᵀ) ⊗ z zᵀ, F̄ its mean over pool and labelled images, and with M labelled
    images J = λI + (Σ_labelled F(x) + k Σ_chosen F(x)) / (M + k), λ = `ridge`, weighted as in the authors' code: Ash et
    al. 2021, arXiv:2106.09675. Greedy: `oversample`·k images are added, each the one that lowers the trace most, and
    then those taken away that raise it least. fisher binary is F(x) = p̂(1 − p̂) z zᵀ with p̂ = max p: Huseljic et al.
    2024, arXiv:2404.08981. score: by how much the image lowered the trace when it was added.

    Time N·(C·D)² once, and N·C²·(C + D) + C³·D² a step, `oversample`·k steps; memory N·(D + C²) + (C·D)². What is
    too large is refused: 10 classes of 512 features are not, 100 are. With binary, C = 1 in all of these.

    Helps with large queries, which it chooses together and for what the whole pool needs, the labelled images included.
    Hurts when time matters: it is the dearest sampler here, and binary the cheap one of the two.
    """
    order = shuffled(pool.ids, rng)  # (N,)
    features, labelled = pool.features, pool.labelled_features.double()
    order_there = order.to(features.device)
    _affordable(pool.size, pool.logits.shape[1], features.shape[1], fisher)
    features, curves = features[order_there].double(), curvature(pool.logits[order_there], fisher)  # (N, D), (N, C, C)
    known, k = curvature(pool.labelled_logits, fisher), min(k, len(pool))
    inside = information(known, labelled)  # (C·D, C·D)
    target = (inside + information(curves, features)) / (len(features) + len(labelled))
    precision = inside / (len(labelled) + k) + ridge * torch.eye(len(inside)).to(inside)
    curves = curves * (k / (len(labelled) + k))
    rows, gains = greedy(Design(precision, target, curves, features), min(oversample * k, len(pool)), 1)
    if len(rows) > k:
        back = rows[::-1]  # of equal ones the last to come is the first to go
        precision = precision + information(curves[back], features[back])
        last = Design(precision, target, curves[back], features[back])
        gone = {back[i] for i in greedy(last, len(rows) - k, -1)[0]}
        rows, gains = zip(*((row, gain) for row, gain in zip(rows, gains, strict=True) if row not in gone), strict=True)
    return Query(order[list(rows)], torch.tensor(gains, dtype=torch.float64))


def _affordable(images: int, classes: int, width: int, fisher: Fisher) -> None:
    """Raises UserError for more than can be held."""
    ways = 1 if fisher == "binary" else classes
    fixed, each = 4 * (ways * width) ** 2, 6 * ways**2
    if fixed + images * each > MOST:
        fewer = f"sampler=subsample sampler.of=bait, which takes {(MOST - fixed) // each:,} candidates"
        raise UserError(
            f"bait of {images:,} candidates, {classes:,} classes and {width:,} features would hold"
            f" {fixed + images * each:,} numbers, more than {MOST:,}",
            where=f"sampler.fisher={fisher}",
            cure=" or ".join(["sampler.fisher=binary"] * (ways > 1) + [fewer] * (fixed + each <= MOST)),
        )
