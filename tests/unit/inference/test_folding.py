"""A folded network answers what the network answers; where it would not, it is not used."""

import pytest
import torch
from torch import Tensor, nn

from kdal_cli.dataset import Shape
from kdal_cli.inference.folding import folded
from kdal_cli.models.mobilenet_v2 import mobilenet_v2
from kdal_cli.models.resnet import resnet
from kdal_cli.models.shufflenet_v1 import shufflenet_v1
from kdal_cli.models.small_cnn import small_cnn
from kdal_cli.models.vgg import vgg
from kdal_cli.models.wrn import wrn
from kdal_cli.network import Network, freeze

SHAPE = Shape(3, 32, 32, 5)
PIXELS = torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def trained(body: nn.Module) -> Network:
    """With batch-norms that do something: statistics, scale and shift away from 0 and 1."""
    rng = torch.Generator().manual_seed(1)
    for module in body.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 1.5),
                (module.weight.data, 0.7, 1.3),
                (module.bias.data, -0.3, 0.3),
            ):
                assert tensor is not None
                tensor.copy_(low + (high - low) * torch.rand(tensor.shape, generator=rng))
    return Network(body, (0.5,) * 3, (0.2,) * 3)


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    ("make", "left"),
    [
        (lambda: resnet(SHAPE, depth=8), 0),
        (lambda: small_cnn(SHAPE), 0),
        (lambda: mobilenet_v2(SHAPE), 0),
        (lambda: vgg(SHAPE, depth=8), 0),
        (lambda: shufflenet_v1(SHAPE), 0),
        (lambda: wrn(SHAPE, depth=10, width=2), 3),  # a batch-norm comes before its convolution there
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 8), nn.BatchNorm1d(8), nn.Linear(8, 5)), 0),
    ],
    ids=["resnet", "small_cnn", "mobilenet_v2", "vgg", "shufflenet_v1", "wrn", "linear"],
)
@torch.no_grad()
def test_it_answers_the_same_with_fewer_layers(make, left: int) -> None:
    network = trained(make())
    looking = folded(network, PIXELS[:8])
    assert looking is not network
    assert norms(looking) == left < norms(network)
    expected, answer = network.eval()(PIXELS), looking(PIXELS)
    torch.testing.assert_close(answer.logits, expected.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(answer.features, expected.features, rtol=1e-4, atol=1e-4)


def test_the_network_itself_stays_as_it_is() -> None:
    network = trained(resnet(SHAPE, depth=8)).train()
    network.tap(["layer1"])
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folded(network, PIXELS[:8])
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert set(network(PIXELS[:2]).maps) == {"layer1"}


def test_a_frozen_network_may_be_folded_too() -> None:
    network = freeze(trained(resnet(SHAPE, depth=8)))
    with torch.no_grad():
        torch.testing.assert_close(folded(network, PIXELS[:8])(PIXELS).logits, network(PIXELS).logits)


class Twice(nn.Module):
    """Where folding would be wrong: `how` a convolution's output is used besides."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv, self.norm, self.linear = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.conv(x)
        normed = self.norm(maps)
        if self.how == "added":
            normed = normed + maps
        if self.how == "convolution again":
            normed = normed + self.conv(x)
        if self.how == "norm again":
            normed = self.norm(normed)
        return self.linear(normed.mean((2, 3)))


@pytest.mark.parametrize("how", ["added", "convolution again", "norm again"])
def test_where_folding_would_change_the_answers_the_network_looks_itself(how: str) -> None:
    network = trained(Twice(how))
    assert folded(network, PIXELS[:8]) is network


def test_a_network_without_batch_norm_looks_itself() -> None:
    network = Network(nn.Sequential(nn.Flatten(), nn.Linear(3072, 5)), (0.5,) * 3, (0.2,) * 3)
    assert folded(network, PIXELS[:8]) is network
