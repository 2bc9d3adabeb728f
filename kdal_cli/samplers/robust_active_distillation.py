"""Ask a teacher that errs: as much to learn as possible, whichever of its answers are wrong."""

import torch
from torch import Generator, Tensor

from kdal_cli.errors import UserError
from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import shuffled
from kdal_cli.types import Query
from kdal_cli.values import Share


def gains(logits: Tensor) -> Tensor:
    """1 − (p₁ − p₂), what a student may gain, (N, C) -> (N,) in float64, from 0 to 1.

    As the sum of all but p₁, and p₂ once more, so that gains of the sure are small and not 0.
    """
    probs = logits.double().softmax(1)  # (N, C)
    others = probs.scatter(1, logits.argmax(1, keepdim=True), 0)  # (N, C)
    return others.sum(1) + others.amax(1)


def log_chances(gains: Tensor, spoiled: float) -> Tensor:
    """log p of the p that maximises Σ p_i g_i when an adversary takes away the worst `spoiled` = m terms of the sum.

    gains: (N,) sorted down -> (N,). With H_k = Σ_{i≤k} 1/g_i and k* = argmax (k − m) / H_k it is p_i = 1 / (g_i H_k*)
    for i ≤ k* and else 0; the sum that is left is (k* − m) / H_k*. In logs, for 1/g may overflow. A gain of 0 has no
    chance. Where m takes everything away, every p is as good: k* is then the number of gains above 0.
    """
    log_inverse = -gains[gains > 0].log()  # (n,)
    count = torch.arange(1, len(log_inverse) + 1, device=gains.device)  # (n,)
    log_value = (count - spoiled).clamp(min=0).log() - log_inverse.logcumsumexp(0)  # (n,)
    best = int(log_value.argmax()) + 1 if spoiled < len(log_inverse) else len(log_inverse)
    log_p = torch.full_like(gains, -torch.inf)
    log_p[:best] = log_inverse[:best].log_softmax(0)
    return log_p


def robust_active_distillation(pool: Evidence, k: int, rng: Generator, *, spoiled: Share | None = None) -> Query:
    """Draw in proportion to 1/g among the k* largest gains g = 1 − (p₁ − p₂) of the student (Baykal et al. 2023).

    arXiv:2210.01213. k* = argmax_j (j − m) / Σ_{i≤j} 1/g_i makes the expected gain the largest for which no choice of m
    wrong answers is worse than another; m = N times the share `spoiled`, or if that is null, times the teacher's error
    on the validation images. Images are drawn one after the other without replacement; when the k* are used up, the
    rest come by gain. score: log p plus Gumbel noise, the k largest of which are such draws; −∞ for the rest.

    Costs the teacher's answers on the validation images alone, none on the pool. Time N·C + N log N, memory N·C.

    Helps when a teacher that errs gives the labels: no single image is relied upon. With m = 0 it is `margin`. Hurts
    when the student is sure of more than N − m images: k* > m then reaches the surest of them, and 1/g draws these
    first. The optimum is that of one draw: of k draws without replacement it holds while k is small beside k*.
    """
    share = teacher_error(pool) if spoiled is None else spoiled
    order = shuffled(pool.ids, rng)  # (N,) so that noise and ties belong to images, wherever they lie
    gain = gains(pool.logits).cpu()[order]
    down = gain.argsort(descending=True, stable=True)  # (N,)
    order, log_p = order[down], log_chances(gain[down], share * len(pool))
    perturbed = log_p - torch.empty_like(log_p).exponential_(generator=rng).log()  # (N,)
    best = perturbed.argsort(descending=True, stable=True)[:k]
    return Query(order[best], perturbed[best])


def teacher_error(pool: Evidence) -> float:
    """The share of validation images that the teacher gets wrong. Raises UserError when there are none."""
    if not len(pool.validation_ids):
        cure = "give the share of wrong answers, from 0 to 1, or hold images out with data.split.validation"
        raise UserError("sampler.spoiled=null is measured on validation images, and there are none", cure=cure)
    wrong = pool.teacher_validation_logits.argmax(1).cpu() != pool.validation_labels.cpu()  # (V,)
    return float(wrong.double().mean())
