"""The precision is a matter of the architecture alone."""

import pytest
import torch

from kdal_cli.dataset import Shape
from kdal_cli.devices import precision as module
from kdal_cli.devices.precision import fitting
from kdal_cli.models.mlp import mlp
from kdal_cli.models.mobilenet_v2 import mobilenet_v2
from kdal_cli.models.resnet import resnet
from kdal_cli.models.small_cnn import small_cnn
from kdal_cli.network import Network

DIGITS, CIFAR = Shape(1, 8, 8, 10), Shape(3, 32, 32, 10)


def image(shape: Shape) -> torch.Tensor:
    return torch.zeros(1, shape.channels, shape.height, shape.width, dtype=torch.uint8)


def network(make, shape: Shape) -> Network:
    return Network(make(shape), (0.5,) * shape.channels, (0.5,) * shape.channels)


@pytest.mark.parametrize(
    ("make", "shape", "chosen"),
    [
        (small_cnn, CIFAR, "bf16"),
        (lambda shape: resnet(shape, depth=8), CIFAR, "bf16"),
        (mobilenet_v2, CIFAR, "fp32"),  # depthwise
        (lambda shape: resnet(shape, depth=8), DIGITS, "fp32"),  # tiny
        (mlp, CIFAR, "fp32"),  # tiny
    ],
)
def test_plain_convolutions_are_worth_bf16_and_grouped_or_tiny_ones_are_not(make, shape: Shape, chosen: str) -> None:
    assert fitting(network(make, shape), image(shape)) == chosen


def test_what_is_worth_it_is_a_matter_of_the_operations(monkeypatch) -> None:
    """An mlp of one hidden layer on 8 × 8 pixels: 2 · (64 · 8 + 8 · 10) operations."""
    net = network(lambda shape: mlp(shape, hidden=(8,)), DIGITS)
    for worth, chosen in ((1184, "bf16"), (1185, "fp32")):
        monkeypatch.setattr(module, "WORTH", worth)
        assert fitting(net, image(DIGITS)) == chosen


def test_asking_changes_nothing_and_a_frozen_network_is_answered_the_same() -> None:
    net = network(lambda shape: small_cnn(shape, dropout=0.5), CIFAR).train()
    before, state = {name: tensor.clone() for name, tensor in net.state_dict().items()}, torch.get_rng_state()
    assert fitting(net, image(CIFAR)) == fitting(net.requires_grad_(False), image(CIFAR)) == "bf16"
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
