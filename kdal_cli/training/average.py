"""The mean of a network's weights over the last steps, which scores better than the last where rates are high."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """a ← d · a + (1 − d) · w after every step t, with d = min(decay, (1 + t) / (10 + t)) to forget the start.

    Statistics of batch-norm are averaged like weights; counts are those of the last step. Polyak and Juditsky 1992.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay = network, decay
        self.held = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    @torch.no_grad()
    def step(self, done: int) -> None:
        """Take in the weights after so many steps."""
        share = 1 - min(self.decay, (1 + done) / (10 + done))
        for name, tensor in self.network.state_dict().items():
            if tensor.is_floating_point():
                self.held[name].lerp_(tensor, share)
            else:
                self.held[name].copy_(tensor)

    def load(self, held: Mapping[str, Tensor]) -> None:
        for name, tensor in held.items():
            self.held[name].copy_(tensor)

    def settle(self) -> None:
        """Leave the network with the averaged weights."""
        self.network.load_state_dict(self.held)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The network with the averaged weights, for as long as it is looked at."""
        last = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.settle()
        try:
            yield
        finally:
            self.network.load_state_dict(last)
