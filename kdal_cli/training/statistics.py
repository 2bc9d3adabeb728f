"""Batch-norm's running statistics: whether they have arrived, and if not, measured with the weights of now.

A running mean starts at 0 and forgets that by (1 − momentum) a step. With the customary momentum of .1 nothing is left
after 50 steps; torchvision's MobileNetV3 and EfficientNet-B5 have .01, its MNASNet .0003. A network that is looked at
before its statistics have arrived answers by chance, whatever it has learnt.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdal_cli.devices.team import Team
from kdal_cli.network import Network
from kdal_cli.training.feed import Feed

LEFT = 0.01
"""The share of its first value below which a running statistic has arrived: 44 steps with a momentum of .1."""

ENOUGH = 1000
"""Images that statistics are measured on: with more no network of ours scores better."""


def settle(learners: nn.Module, feed: Feed, step: int, team: Team) -> None:
    """Measure the statistics of every network that learns, where they have not arrived by `step`.

    On the last `ENOUGH` images that it was trained on before, in the same batches, each process on its share: a forward
    pass over them, and nothing where statistics have arrived.
    """
    batches = -(-ENOUGH // (feed.batch + feed.pool_batch))
    for network in learners.modules():
        if isinstance(network, Network) and not arrived(network, step):
            plan = feed.plan(max(0, step - batches), step)
            team.average(measure_anew(network, (batch.pixels for batch in feed.batches(plan))))


def arrived(network: Network, steps: int) -> bool:
    """Whether so many steps leave no more than `LEFT` of what any running statistic was before them.

    Without a momentum a statistic is the mean over all steps, and is taken for one of momentum 1 / steps.
    """
    momenta = (layer.momentum or 1 / steps for layer in _layers(network))
    return all((1 - momentum) ** steps <= LEFT for momentum in momenta)


@torch.no_grad()
def measure_anew(network: Network, batches: Iterable[Tensor]) -> list[Tensor]:
    """Replace all running statistics by their means over batches (B, c, H, W) uint8, and return them.

    In float32 and without dropout, as the network will be looked at, but each batch normalised by itself, as in
    training: Wu and Johnson 2021, arXiv:2105.07576. Its weights and its mode stay; so do layers that do not train.
    """
    layers, was_training = list(_layers(network)), network.training
    momenta = [layer.momentum for layer in layers]
    network.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # of all batches alike
        layer.train()
    for pixels in batches:
        network(pixels)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.train(was_training)
    both = (statistic for layer in layers for statistic in (layer.running_mean, layer.running_var))
    return [statistic for statistic in both if statistic is not None]


def _layers(network: Network) -> Iterable[_BatchNorm]:
    """The layers whose running statistics training moves."""
    return (
        layer
        for layer in network.modules()
        if isinstance(layer, _BatchNorm) and layer.training and layer.running_mean is not None
    )
