"""Signs that a network has learnt nothing, in its answers alone.

Axis letters: N images, C classes. Logits (N, C) may have any float type; everything is computed in float64 on the CPU.
"""

from torch import Tensor

from kdal_cli.metrics.inputs import checked_logits, top1

SAME = 1e-4
"""The share of the largest logit by which logits may differ from image to image and still be the same."""

EVEN = 0.01
"""How far apart the logits of an image may be, in nats, when every class is as likely as any other."""


def one_answer(logits: Tensor) -> int | None:
    """The class that all of several images are answered with, or None where there are two such classes."""
    answers = top1(checked_logits(logits)).unique()
    return int(answers[0]) if len(answers) == 1 < len(logits) else None


def alike(logits: Tensor) -> bool:
    """Whether several images have the same logits: then nothing of an image reaches them."""
    logits = checked_logits(logits)
    apart = logits.amax(0) - logits.amin(0)  # (C,)
    return len(logits) > 1 and bool(apart.max() <= SAME * logits.abs().max())


def undecided(logits: Tensor) -> bool:
    """Whether all classes are as likely for every image."""
    logits = checked_logits(logits)
    return bool((logits.amax(1) - logits.amin(1)).max() <= EVEN)
