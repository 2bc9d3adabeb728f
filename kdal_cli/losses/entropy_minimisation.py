"""A student that makes up its mind: the entropy of its own answers, to be made small. Needs no teacher."""

from torch import Tensor

from kdal_cli.losses._softmax import log_softened
from kdal_cli.types import Batch, Output


def entropy(logits: Tensor) -> Tensor:
    """H(q) = −Σ_c q log q, q = softmax(z), nats, (B, C) -> (B,), from 0 to log C. A class with q = 0 adds nothing."""
    log_q = log_softened(logits, 1.0)  # (B, C)
    return -(log_q.exp() * log_q).sum(1)


def entropy_minimisation(student: Output, teacher: Output | None, batch: Batch) -> Tensor:
    """+H(q_s), (B,): boundaries between classes move away from the images. See `entropy`.

    Grandvalet and Bengio 2004, on images without a label. The opposite of `confidence_penalty`.
    """
    return entropy(student.logits)
