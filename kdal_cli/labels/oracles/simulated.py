"""The labels of the data set, sold one by one."""

import torch
from torch import Tensor

from kdal_cli.labels.oracle import FIRST, Answer, Occasion, Oracle
from kdal_cli.values import NonNegative, Share


def simulated(labels: Tensor, classes: int, *, price: NonNegative = 1.0, noise: Share = 0.0) -> Oracle:
    """An oracle that knows the label of every id, (N,), and sells each at `price`.

    noise: the share of ids of which it believes another class, any of the others alike; asked again it is wrong again,
    and every run meets the same errors.
    """
    rng = torch.Generator().manual_seed(0)
    wrong = torch.rand(len(labels), generator=rng) < noise
    other = (labels + torch.randint(1, classes, (len(labels),), generator=rng)) % classes
    believed = torch.where(wrong, other, labels)

    def answer(ids: Tensor, occasion: Occasion = FIRST) -> Answer:
        return Answer(believed[ids].clone(), torch.full((len(ids),), price, dtype=torch.float64), "simulated")

    return answer
