"""How often a teacher is wrong where it is sure: what validation labels promise, and whether an audit keeps it.

n images, of which k were answered wrongly.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def interval(wrong: int, images: int, level: float = 0.95) -> tuple[float, float]:
    """The two-sided interval of a share by Clopper and Pearson, Biometrika 1934: it holds it at least so often."""
    outside = (1 - level) / 2
    return lower(wrong, images, 1 - outside), upper(wrong, images, 1 - outside)


def upper(wrong: int, images: int, level: float) -> float:
    """What a share is not above, at this level: the p of which `wrong` or fewer have the probability 1 − level."""
    from scipy.stats import beta

    return 1.0 if wrong >= images else float(beta.ppf(level, wrong + 1, images - wrong))


def lower(wrong: int, images: int, level: float) -> float:
    """What a share is not below, at this level."""
    from scipy.stats import beta

    return 0.0 if wrong <= 0 else float(beta.ppf(1 - level, wrong, images - wrong + 1))


def threshold(confidence: Tensor, right: Tensor, error: float, level: float) -> float:
    """From which confidence on answers are wrong at most `error` of the time, at this level; inf where none are.

    confidence: (n,) of answers whose truth is known; right: (n,) bool. The share that is answered is made larger, from
    the surest on, as long as the upper bound keeps the promise, and the first that breaks it ends the search. So each
    bound is a test of its own and the level holds for what is chosen (fixed-sequence testing: Angelopoulos et al.,
    "Learn then Test", arXiv:2110.01052). The first share is the smallest that could pass, with no answer wrong.
    """
    order = confidence.argsort(descending=True, stable=True)
    sure, wrong = confidence[order], (~right[order]).cumsum(0)
    ends = torch.ones(len(sure), dtype=torch.bool)
    ends[:-1] = sure[:-1] != sure[1:]  # equals are answered together
    first = math.ceil(math.log(1 - level) / math.log(1 - error)) if error < 1 else 1
    found = math.inf
    for n in (ends.nonzero().flatten() + 1).tolist():
        if n < first:
            continue
        if upper(int(wrong[n - 1]), n, level) > error:
            break
        found = float(sure[n - 1])
    return found


def broken(audits: Sequence[bool], error: float, level: float) -> bool:
    """Whether audited answers, each right or not, are wrong more often than was promised, at this level."""
    return bool(audits) and lower(audits.count(False), len(audits), level) > error * (1 + 1e-9)  # equal is not above


def told(by_teacher: int, audits: Sequence[bool]) -> str:
    """The labels of the teacher and what audits found, in words."""
    wrong, n = audits.count(False), len(audits)
    low, high = interval(wrong, n) if n else (0.0, 1.0)
    found = f"audits found it wrong in {wrong} of {n} images ({low:.1%} to {high:.1%}, 95 % interval)"
    return f"{by_teacher:,} more labels are the teacher's; {found if n else 'none was audited'}"


def audited(by_teacher: int, audits: Sequence[bool]) -> dict[str, float]:
    """The columns of a curve about labels of the teacher: how many there are, and how often audits found it wrong."""
    wrong, n = audits.count(False), len(audits)
    low, high = interval(wrong, n) if n else (0.0, 1.0)
    error = {"teacher_error": wrong / n if n else math.nan, "teacher_error_low": low, "teacher_error_high": high}
    return {"labels_by_teacher": by_teacher, "audited": n, **error}
