"""Who sells labels. The only code that sees a label before it is paid for.

An oracle is `(ids (k,)) -> Answer | None`; None means that a person has still to answer. The folder is not a registry
here: an oracle is named in `conf/oracle` and is a class of this file.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kdal_cli.types import Labels
from kdal_cli.values import NonNegative, Share


@dataclass(frozen=True)
class Answer:
    """labels: (k,) int64. costs: (k,) in the currency of the oracle, one price per label. owner: who answered."""

    labels: Tensor
    costs: Tensor
    owner: str


class Oracle(Protocol):
    def __call__(self, ids: Tensor) -> Answer | None: ...


def simulated(labels: Labels, classes: int, *, price: NonNegative = 1.0, noise: Share = 0.0) -> Oracle:
    """An oracle that knows what the data set says, and sells each label at `price`.

    noise: the share of ids of which it believes another class, any of the others alike; asked again it is wrong again,
    and every run meets the same errors. An image whose label is unknown raises LookupError.
    """
    rng = torch.Generator().manual_seed(0)
    wrong = torch.rand(len(labels), generator=rng) < noise  # (N,)
    apart = torch.where(wrong, torch.randint(1, classes, (len(labels),), generator=rng), 0)  # (N,)

    def answer(ids: Tensor) -> Answer:
        believed = (labels.of(ids) + apart[ids]) % classes
        return Answer(believed, torch.full((len(ids),), price, dtype=torch.float64), "simulated")

    return answer
