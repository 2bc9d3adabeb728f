"""The head of a body that does not change learns on features from which their mean is taken.

Axis letters: B batch, C classes, D features.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kdal_cli.devices.passes import images_a_pass
from kdal_cli.devices.team import Team
from kdal_cli.images.augment import Resident
from kdal_cli.metrics.cost import evaluating
from kdal_cli.network import Network, classifier

ASKED, PASS = 500, 64
"""Images whose features are averaged at most, and looked at together."""


class Centring:
    """Steps of an optimizer in which a head W x + b is W (x − m) + b', with b' = b + W m: the same functions of x.

    What features have in common says nothing of the classes, and is most of their length after a ReLU: descent goes
    along it first and back and forth (LeCun et al., "Efficient BackProp", 1998, section 4.3). The head itself stays
    W x + b, between the steps and when it is saved. mean: m, (D,).
    """

    def __init__(self, head: nn.Linear, mean: Tensor) -> None:
        self.weight, self.bias, self.mean = head.weight, head.bias, mean

    @classmethod
    def of(cls, network: Network, images: Resident, ids: Tensor, team: Team) -> "Centring | None":
        """By the features of images `ids` (n,), as they are, of which many are not all asked; None without any."""
        head = classifier(network.body)
        if head.bias is None or not len(ids):  # pyright: ignore[reportUnnecessaryComparison]
            return None
        some = ids[torch.linspace(0, len(ids) - 1, min(len(ids), ASKED)).round().long()]
        mean = _mean(network, images, some)
        team.follow([mean])
        return cls(head, mean)

    @contextmanager
    @torch.no_grad()
    def step(self) -> Iterator[None]:
        """While the optimizer steps: (W, b') and their gradients in place of (W, b) and theirs."""
        self.bias += self.weight @ self.mean
        if self.weight.grad is not None and self.bias.grad is not None:
            self.weight.grad -= torch.outer(self.bias.grad, self.mean)
        yield
        self.bias -= self.weight @ self.mean


@torch.no_grad()
def _mean(network: Network, images: Resident, ids: Tensor) -> Tensor:
    """(D,)"""
    with evaluating(network):
        parts = ids.split(images_a_pass(network, images, PASS))
        seen = [network.recall(images, part) or network(images.whole(part)) for part in parts]
    return torch.cat([output.features.float() for output in seen]).mean(0)
