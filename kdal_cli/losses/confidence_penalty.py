"""A student that is not too sure: the entropy of its own answers, to be made large. Needs no teacher."""

from torch import Tensor

from kdal_cli.losses.entropy_minimisation import entropy
from kdal_cli.types import Batch, Output


def confidence_penalty(student: Output, teacher: Output | None, batch: Batch) -> Tensor:
    """−H(q_s), (B,), from −log C to 0: it is subtracted from the loss. See `entropy`.

    Pereyra et al. 2017, arXiv:1701.06548. It is KL(q_s ‖ uniform) − log C, and so never above zero.
    The opposite of `entropy_minimisation`.
    """
    return -entropy(student.logits)
